import { parseDigest, type Digest } from '../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../oci/name.js';
import type { RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { linesOf } from './records.js';
import type { InUse, InUseHistory } from './usage.js';

/** Who can tell what runs. */
export type InUseSource = 'kubernetes' | 'docker';

const folder = 'inuse/';
const pageSize = 1_000;

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
  #known = false;
  readonly #lapsed = new Set<string>();

  constructor(
    private readonly records: RecordStore,
    /** Those that are configured: what others once told counts no longer. */
    private readonly sources: readonly InUseSource[],
    private readonly keepMs: number,
    private readonly log: Logger,
  ) {}

  async *images(signal: AbortSignal): AsyncGenerator<readonly InUse[]> {
    for (const source of this.sources) {
      for (const key of await this.records.listRecords(`${folder}${source}/`)) {
        signal.throwIfAborted();
        const record = parse(await this.records.readRecord(key));
        if (record === undefined || this.#hasLapsed(key, record.seenMs)) continue;
        const images = [...record.images]
          .map((text) => parseImage(text))
          .filter((image) => image !== undefined);
        for (let from = 0; from < images.length; from += pageSize) yield images.slice(from, from + pageSize);
      }
    }
  }

  async areKnown(): Promise<boolean> {
    this.#known ||= await this.#haveAllTold();
    return this.#known;
  }

  /** What the source was last seen to run, in the words of {@link imageText}; `undefined`: nobody has looked yet. */
  async read(source: InUseSource, id: string): Promise<ReadonlySet<string> | undefined> {
    return parse(await this.records.readRecord(`${folder}${source}/${id}`))?.images;
  }

  async write(source: InUseSource, id: string, seenMs: number, images: Iterable<string>): Promise<void> {
    const text = `seen ${Math.floor(seenMs / 1000)}\n${[...images].map((image) => `${image}\n`).join('')}`;
    await this.records.writeRecord(`${folder}${source}/${id}`, Buffer.from(text, 'latin1'));
  }

  async #haveAllTold(): Promise<boolean> {
    for (const source of this.sources) {
      if ((await this.records.listRecords(`${folder}${source}/`)).length === 0) return false;
    }
    return true;
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

function parse(
  bytes: Buffer | undefined,
): { readonly seenMs: number; readonly images: ReadonlySet<string> } | undefined {
  if (bytes === undefined) return undefined;
  const [first = '', ...images] = linesOf(bytes);
  const seen = /^seen (\d{1,12})$/.exec(first)?.[1];
  return seen === undefined ? undefined : { seenMs: Number(seen) * 1000, images: new Set(images) };
}
