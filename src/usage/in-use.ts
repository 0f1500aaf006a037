import { loopTurn } from '../async/loop-turn.js';
import { parseDigest, type Digest } from '../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../oci/name.js';
import { StorageError, type RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { linePages } from './records.js';
import type { InUse, InUseHistory } from './usage.js';

/** Who can tell what runs. */
export type InUseSource = 'kubernetes' | 'docker';

const folder = 'inuse/';
/** A record that could be read is taken to be readable for so long. */
const checkedMs = 10_000;

/**
 * What runs somewhere, as text in records of the storage: `inuse/<source>/<cluster or engine>`, written by the replica
 * that looks. The first line says when the source last told of it, in seconds since 1970; each other one is an image
 * in the store's own names, by digest or by tag:
 *
 *     seen 1763725200
 *     library/alpine@sha256:4bcf…
 *     ghcr.io/team/app:1.2
 *
 * So nothing of it goes when the mirror starts anew, or while nobody can be asked: for `keepMs`.
 */
export class InUseRecords implements InUseHistory {
  /** When all records were last found to be readable, by `performance.now()`. */
  #checkedMs = -Infinity;
  readonly #lapsed = new Set<string>();

  constructor(
    private readonly records: RecordStore,
    /** Those that are configured: what others once told counts no longer. */
    private readonly sources: readonly InUseSource[],
    private readonly keepMs: number,
    private readonly log: Logger,
  ) {}

  async *images(
    signal: AbortSignal,
    skip: (record: string, error: Error) => Promise<void>,
  ): AsyncGenerator<readonly InUse[]> {
    for (const source of this.sources) {
      for (const key of await this.records.listRecords(`${folder}${source}/`)) {
        signal.throwIfAborted();
        try {
          yield* this.#imagesIn(key);
        } catch (error) {
          if (!(error instanceof StorageError)) throw error;
          this.#checkedMs = -Infinity;
          await skip(key, error);
        }
      }
    }
  }

  async unknown(): Promise<string | undefined> {
    if (performance.now() - this.#checkedMs < checkedMs) return undefined;
    try {
      const why = await this.#check();
      if (why === undefined) this.#checkedMs = performance.now();
      return why;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return `what runs is not known: ${error.message}`;
    }
  }

  /**
   * The images that the source was last seen to run, in the words of {@link imageText}; `undefined`: no replica has
   * looked yet, or what it wrote cannot be read.
   */
  async read(source: InUseSource, id: string): Promise<ReadonlySet<string> | undefined> {
    const key = `${folder}${source}/${id}`;
    try {
      const bytes = await this.records.readRecord(key);
      if (bytes === undefined) return undefined;
      const images = new Set<string>();
      for await (const page of parse(key, bytes).pages) {
        for (const { repository, reference } of page) images.add(imageText(repository, reference));
      }
      return images;
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      this.log.warn({ record: key, err }, 'a record of what runs cannot be read, and is written anew');
      return undefined;
    }
  }

  async write(source: InUseSource, id: string, seenMs: number, images: Iterable<string>): Promise<void> {
    const text = `seen ${Math.floor(seenMs / 1000)}\n${[...images].map((image) => `${image}\n`).join('')}`;
    await this.records.writeRecord(`${folder}${source}/${id}`, Buffer.from(text, 'latin1'));
  }

  async #check(): Promise<string | undefined> {
    for (const source of this.sources) {
      const keys = await this.records.listRecords(`${folder}${source}/`);
      if (keys.length === 0) return 'what runs is not known yet, which scheduler.inuse keeps';
      for (const key of keys) for await (const _ of this.#imagesIn(key));
    }
    return undefined;
  }

  /** Throws StorageError, also where it is not as a replica writes it: it may protect anything. */
  async *#imagesIn(key: string): AsyncGenerator<readonly InUse[]> {
    const bytes = await this.records.readRecord(key);
    if (bytes === undefined) return; // removed since it was listed
    const { seenMs, pages } = parse(key, bytes);
    if (!this.#hasLapsed(key, seenMs)) yield* pages;
  }

  /** Said once. */
  #hasLapsed(record: string, seenMs: number): boolean {
    if (seenMs > Date.now() - this.keepMs) {
      this.#lapsed.delete(record);
      return false;
    }
    if (!this.#lapsed.has(record)) {
      this.log.warn({ record, seenMs }, 'what ran there was last seen too long ago, and may expire now');
    }
    this.#lapsed.add(record);
    return true;
  }
}

/** As it stands in a record; repositories have no colon in their names. */
export function imageText(repository: Repository, reference: Digest | Tag): string {
  return parseDigest(reference) === undefined ? `${repository}:${reference}` : `${repository}@${reference}`;
}

/** `undefined`: nobody here has written that. */
export function parseImage(text: string): InUse | undefined {
  const [, name, mark, rest] = /^([^@:]+)([@:])(\S+)$/.exec(text) ?? [];
  const repository = parseRepository(name ?? '');
  const reference = mark === '@' ? parseDigest(rest ?? '') : parseTag(rest ?? '');
  return repository === undefined || reference === undefined ? undefined : { repository, reference };
}

/** Throws StorageError where a line is not as {@link InUseRecords.write} writes it. */
function parse(
  key: string,
  bytes: Buffer,
): { readonly seenMs: number; readonly pages: AsyncIterable<readonly InUse[]> } {
  const end = bytes.indexOf('\n');
  const seen = /^seen (\d{1,12})$/.exec(bytes.toString('latin1', 0, Math.min(Math.max(end, 0), 32)))?.[1];
  if (seen === undefined) throw damaged(key);
  return { seenMs: Number(seen) * 1000, pages: imagePages(key, bytes.subarray(end + 1)) };
}

async function* imagePages(key: string, bytes: Buffer): AsyncGenerator<readonly InUse[]> {
  let first = true;
  for (const lines of linePages(bytes)) {
    if (!first) await loopTurn();
    first = false;
    yield lines.map((text) => {
      const image = parseImage(text);
      if (image === undefined) throw damaged(key);
      return image;
    });
  }
}

function damaged(key: string): StorageError {
  return new StorageError('io', `record ${key} is damaged; remove it where its cluster or engine is gone`);
}
