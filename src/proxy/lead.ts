import { setTimeout as sleep } from 'node:timers/promises';
import { giveUp } from '../memory/buffer-pool.js';
import { UpstreamError, type UpstreamCode } from '../upstream/upstream.js';
import type { Filling, Source } from './filler.js';

/** A break counts afresh after this much: an upstream that gives a byte at a time is not making progress. */
const progress = 64 * 1024;
const openingPauses = [150, 450];
const resumePauses = [100, 250, 500, 1_000, 2_000, 4_000];
/** Asking again at once would not help, or would do harm. */
const final: ReadonlySet<UpstreamCode> = new Set([
  'rate-limited',
  'breaker-open',
  'credentials-refused',
  'realm-refused',
  'redirect-refused',
  'too-large',
]);

export interface LeadOptions {
  /** Of a blob; larger ones are refused. */
  readonly maxBytes: number;
  /** Bytes that came from the upstream. */
  read(bytes: number): void;
  resumed(source: Source, offset: number, error: UpstreamError): void;
  /** Asked before each chunk is used; throws when this process is to stop reading the upstream. */
  mayGoOn?(): void | Promise<void>;
}

/**
 * Fills a transfer from the upstream: from the first source that gives the blob, from the byte that is reached. A
 * broken body is continued with `Range`, from the same source, then from others.
 */
export async function fillFromUpstream(filling: Filling, options: LeadOptions): Promise<void> {
  let first: UpstreamError | undefined;
  for (;;) {
    const source = filling.nextSource();
    if (source === undefined) throw first ?? new Error('a transfer without a source');
    try {
      await fillFrom(source, filling, options);
      return;
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      first ??= error;
      filling.refuse(source, error);
    }
  }
}

async function fillFrom(source: Source, filling: Filling, options: LeadOptions): Promise<void> {
  let breaks = 0;
  let since = filling.length;
  for (;;) {
    try {
      await readBody(source, filling, options);
      return;
    } catch (error) {
      const stops = !(error instanceof UpstreamError) || error.kind === 'answer' || filling.signal.aborted;
      if (stops) throw error;
      if (filling.length >= since + progress) breaks = 0;
      since = filling.length;
      const pause = (filling.length === 0 ? openingPauses : resumePauses)[breaks];
      const isFinal = error.code === 'too-large' || (filling.length === 0 && final.has(error.code));
      if (pause === undefined || isFinal) throw error;
      breaks += 1;
      options.resumed(source, filling.length, error);
      await sleep(pause, undefined, { signal: filling.signal });
    }
  }
}

async function readBody(source: Source, filling: Filling, options: LeadOptions): Promise<void> {
  const { upstream, repository } = source;
  const { maxBytes, mayGoOn, read } = options;
  if (filling.size !== undefined && filling.length === filling.size) return;
  await mayGoOn?.();
  const fetched = await upstream.fetchBlob(repository, filling.digest, filling.length, filling.signal);
  try {
    checkSize(fetched.size ?? 0, maxBytes, upstream.host);
    filling.open(source, fetched.size);
  } catch (error) {
    await fetched.body[Symbol.asyncIterator]().return?.(); // nobody reads it: its connection is given up
    throw error;
  }
  for await (const chunk of fetched.body) {
    await mayGoOn?.();
    checkSize(filling.length + chunk.byteLength, maxBytes, upstream.host);
    if (filling.size !== undefined && filling.length + chunk.byteLength > filling.size) {
      throw new UpstreamError('invalid', upstream.host, 'sent more bytes than it declared');
    }
    read(chunk.byteLength);
    await filling.append(chunk);
    giveUp(chunk);
  }
}

function checkSize(size: number, most: number, host: string): void {
  if (size <= most) return;
  throw new UpstreamError(
    'too-large',
    host,
    `the blob is larger than proxy.maxblobsize allows (${most} bytes)`,
  );
}
