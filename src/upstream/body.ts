import { wholeBodies } from '../memory/budgets.js';
import type { Holding } from '../memory/byte-budget.js';
import { readAtMost, TooLong } from '../memory/read-at-most.js';
import type { Reply, Transport } from './transport.js';
import { troubleOf, UpstreamError } from './upstream.js';

/** What a blob's body has to be. */
export interface BodyPlan {
  /** Bytes before the part that was asked for. */
  readonly skip: number;
  /** Bytes on the wire, `skip` included; `undefined` where the upstream did not say. */
  readonly length: number | undefined;
}

/** The length that the headers announce. */
export function contentLength(reply: Reply): number | undefined {
  const header = reply.headers['content-length'];
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

/** @throws UpstreamError `invalid`, where the bytes are not those of the content but an encoding of them. */
export function checkIdentity(reply: Reply, host: string): void {
  const encoding = reply.headers['content-encoding'];
  if (encoding === undefined || encoding.trim().toLowerCase() === 'identity') return;
  reply.body.destroy();
  throw new UpstreamError('invalid', host, 'sent an encoded body (Content-Encoding) although asked not to');
}

/**
 * A whole body of at most `limit` bytes. `holding` has its room in memory from the first piece on.
 * @throws UpstreamError, also where this process reads too much at a time
 */
export async function readBody(
  reply: Reply,
  limit: number,
  host: string,
  transport: Transport,
  signal: AbortSignal,
  holding?: Holding,
): Promise<Buffer> {
  checkIdentity(reply, host);
  const announced = contentLength(reply);
  const tooLarge = (): UpstreamError => new UpstreamError('invalid', host, `sent more than ${limit} bytes`);
  if (announced !== undefined && announced > limit) {
    reply.body.destroy();
    throw tooLarge();
  }
  try {
    using own = holding === undefined ? wholeBodies.open(host) : undefined;
    const room = holding ?? own;
    const admit = async (bytes: number): Promise<void> => room?.grow(bytes, signal);
    return await readAtMost(reply.body as AsyncIterable<Buffer>, limit, admit);
  } catch (error) {
    const trouble = troubleOf(error, host);
    if (trouble !== undefined) throw trouble;
    throw transport.failure(error instanceof TooLong ? tooLarge() : error, signal, true);
  }
}

/**
 * The bytes of a blob as they arrive, without the prefix that was not asked for. Ends normally only after the
 * announced length; ending the iteration before that gives up the connection, also before the first step.
 */
export class BlobBody implements AsyncIterableIterator<Uint8Array> {
  readonly #chunks: AsyncIterator<Buffer>;
  #received = 0;

  constructor(
    private readonly reply: Reply,
    private readonly plan: BodyPlan,
    private readonly host: string,
    private readonly transport: Transport,
    private readonly signal: AbortSignal,
  ) {
    this.#chunks = (reply.body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    try {
      for (;;) {
        const step = await this.#chunks.next();
        if (step.done === true) return this.#end();
        const wanted = this.#take(step.value);
        if (wanted.length > 0) return { done: false, value: wanted };
      }
    } catch (error) {
      this.reply.body.destroy();
      throw this.transport.failure(error, this.signal, true);
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.reply.body.destroy();
    return Promise.resolve({ done: true, value: undefined });
  }

  #take(chunk: Buffer): Uint8Array {
    const before = this.#received;
    this.#received += chunk.length;
    if (this.plan.length !== undefined && this.#received > this.plan.length) {
      throw new UpstreamError('invalid', this.host, `sent more than the ${this.plan.length} bytes announced`);
    }
    return before >= this.plan.skip ? chunk : chunk.subarray(this.plan.skip - before);
  }

  #end(): IteratorResult<Uint8Array, undefined> {
    if (this.#received < Math.max(this.plan.length ?? 0, this.plan.skip)) {
      throw new UpstreamError(
        'broken-body',
        this.host,
        `the body ended after ${this.#received} bytes of ${this.plan.length ?? 'an unknown number'}`,
      );
    }
    return { done: true, value: undefined };
  }
}
