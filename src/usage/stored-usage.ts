import { loopTurn } from '../async/loop-turn.js';
import { pagesOf } from '../storage/pages.js';
import { StorageError, type RecordStore } from '../storage/storage.js';
import { registrySchedule } from '../storage/layout.js';
import type { Logger } from '../telemetry/log.js';
import {
  digits,
  formatUses,
  hasPrefix,
  journalsFolder,
  journalTime,
  linePages,
  longestRecord,
  mergedKey,
  parseRegistrySchedule,
  parseStoredBytes,
  parseUses,
  snapshotFolder,
  snapshotKey,
  useKey,
} from './records.js';
import type { UsageLog } from './usage-log.js';
import { hexOf, type Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { SkipUses, UnknownUses, Use, UsageHistory } from './usage.js';

const pageSize = 1_000;
/** What {@link StoredUsage.compact} holds in memory. */
const mostAtOnce = 200_000;
/** Journals stay for so long after they came into the snapshot. */
const keepMs = 60 * 60_000;
/** Digests are spread evenly, so a part of the snapshot is short long before. */
const mostDigits = 8;
const adoptedKey = `adopted/${registrySchedule}`;

/** Uses in records of the storage (records.ts). registry:2's schedule is read as one more journal. */
export class StoredUsage implements UsageHistory {
  /** Journals that were read when {@link noted} last came to its end, or before. */
  #read: ReadonlySet<string> = new Set();

  constructor(
    private readonly records: RecordStore,
    private readonly own: Pick<UsageLog, 'unwritten' | 'unwrittenBytes' | 'watch'>,
    private readonly log: Logger,
  ) {}

  async *snapshot(signal: AbortSignal, skip: SkipUses): AsyncGenerator<readonly Use[]> {
    signal.throwIfAborted();
    for (const prefix of await this.#parts()) {
      signal.throwIfAborted();
      const end = yield* this.#pages(snapshotKey(prefix), prefix);
      if (typeof end !== 'string') await skip(end);
    }
  }

  async *noted(signal: AbortSignal, skip: SkipUses, since = 0): AsyncGenerator<readonly Use[]> {
    yield* this.#journals(signal, since, async (unknown) => {
      await skip(unknown);
      return true;
    });
  }

  /** `skip` says whether a journal that cannot be read counts as read. */
  async *#journals(
    signal: AbortSignal,
    since: number,
    skip: (unknown: UnknownUses) => Promise<boolean>,
  ): AsyncGenerator<readonly Use[]> {
    const read = new Set(since > 0 ? this.#read : []);
    for (const key of [adoptedKey, ...(await this.records.listRecords(journalsFolder))]) {
      signal.throwIfAborted();
      if ((journalTime(key) ?? 0) < since || (since > 0 && read.has(key))) continue;
      const end = yield* this.#pages(key, '');
      if (end === 'read' || (end !== 'absent' && (await skip(end)))) read.add(key);
    }
    this.#read = read;
  }

  unwritten(): Iterable<Use> {
    return this.own.unwritten();
  }

  watch(told: (repository: Repository, digest: Digest) => void): Disposable {
    return this.own.watch(told);
  }

  async compact(signal: AbortSignal): Promise<void> {
    const latest = new Map<string, Use>();
    // A journal that cannot be read stays: the next look through the storage knows what its uses mean.
    for await (const page of this.#journals(signal, 0, () => Promise.resolve(false))) {
      for (const use of page) setLatest(latest, use);
      if (latest.size < mostAtOnce) continue;
      await this.#merge(latest, signal);
      latest.clear();
    }
    await this.#merge(latest, signal);
    await this.#retire(signal);
  }

  async save(usesOf: (prefix: string) => Iterable<readonly Use[]>, signal: AbortSignal): Promise<void> {
    const before = await this.#parts();
    for (const digit of digits) await this.#writePart(digit, usesOf, before, signal);
    await this.#retire(signal);
  }

  async storedSince(ms: number, signal: AbortSignal): Promise<number> {
    let bytes = this.own.unwrittenBytes;
    for (const key of await this.records.listRecords(journalsFolder)) {
      signal.throwIfAborted();
      if ((journalTime(key) ?? 0) < ms) continue;
      try {
        const journal = await this.records.readRecord(key);
        if (journal !== undefined) bytes += parseStoredBytes(journal);
      } catch (err) {
        if (!(err instanceof StorageError)) throw err;
        this.log.warn({ record: key, err }, 'a record of uses cannot be read');
      }
    }
    return bytes;
  }

  /** The digits that parts of the snapshot are named by, sorted. */
  async #parts(): Promise<string[]> {
    const keys = await this.records.listRecords(snapshotFolder);
    return keys.map((key) => key.slice(snapshotFolder.length)).filter((prefix) => /^[0-9a-f]+$/.test(prefix));
  }

  async #merge(uses: ReadonlyMap<string, Use>, signal: AbortSignal): Promise<void> {
    const before = await this.#parts();
    const whole = digits.filter((digit) => !before.some((prefix) => prefix.startsWith(digit)));
    // The longest first: a part that was just divided may still be there as a whole.
    const parts = [...before, ...whole].sort((a, b) => b.length - a.length);
    const fresh = new Map<string, Use[]>(parts.map((prefix) => [prefix, []]));
    let seen = 0;
    for (const use of uses.values()) {
      listIn(fresh, parts.find((prefix) => hasPrefix(use.digest, prefix)) ?? newPart(use, before)).push(use);
      if ((seen += 1) % pageSize === 0) await loopTurn();
    }
    for (const [prefix, added] of fresh) {
      if (added.length > 0) await this.#mergePart(prefix, added, signal);
    }
  }

  async #mergePart(prefix: string, added: readonly Use[], signal: AbortSignal): Promise<void> {
    const latest = new Map<string, Use>();
    for await (const page of this.#strictPages(snapshotKey(prefix), prefix)) {
      for (const use of page) setLatest(latest, use);
    }
    for (const page of pagesOf(added, pageSize)) {
      for (const use of page) setLatest(latest, use);
      await loopTurn();
    }
    const all = [...latest.values()];
    const usesOf = (prefix: string): Iterable<readonly Use[]> =>
      pagesOf(
        all.filter(({ digest }) => hasPrefix(digest, prefix)),
        pageSize,
      );
    await this.#writePart(prefix, usesOf, [prefix], signal);
  }

  /** In one record, or in one for each further digit where it would become too long. */
  async #writePart(
    prefix: string,
    usesOf: (prefix: string) => Iterable<readonly Use[]>,
    before: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const text: Buffer[] = [];
    let length = 0;
    for (const page of usesOf(prefix)) {
      const bytes = formatUses(page);
      text.push(bytes);
      length += bytes.byteLength;
      await loopTurn();
      if (length <= longestRecord || prefix.length === mostDigits) continue;
      text.length = 0;
      for (const digit of digits) await this.#writePart(prefix + digit, usesOf, before, signal);
      if (before.includes(prefix)) await this.records.removeRecord(snapshotKey(prefix));
      return;
    }
    await this.records.writeRecord(snapshotKey(prefix), Buffer.concat(text));
    for (const part of before) {
      if (part !== prefix && part.startsWith(prefix)) await this.records.removeRecord(snapshotKey(part));
    }
  }

  /** Notes which journals are in the snapshot now, and removes those that have been for long enough. */
  async #retire(signal: AbortSignal): Promise<void> {
    const now = Date.now();
    const before = await this.#merged();
    const merged = new Map([...before].filter(([, since]) => now - since < keepMs));
    for (const key of this.#read) {
      signal.throwIfAborted();
      const since = before.get(key) ?? now;
      if (now - since < keepMs) merged.set(key, since);
      else await this.records.removeRecord(key);
    }
    const text = [...merged].map(([key, since]) => `${since} ${key}\n`).join('');
    await this.records.writeRecord(mergedKey, Buffer.from(text));
  }

  /** Which journals are in the snapshot, and since when. Where that cannot be read, it is as if they came in now. */
  async #merged(): Promise<Map<string, number>> {
    try {
      return parseMerged((await this.records.readRecord(mergedKey)) ?? Buffer.alloc(0));
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      this.log.warn({ record: mergedKey, err }, 'a record of uses cannot be read');
      return new Map();
    }
  }

  /** Returns what a record that cannot be read does not tell. */
  async *#pages(
    key: string,
    prefix: string,
  ): AsyncGenerator<readonly Use[], UnknownUses | 'read' | 'absent'> {
    const now = Math.floor(Date.now() / 1000);
    const until = Math.min(now, Math.ceil((journalTime(key) ?? Infinity) / 1000));
    try {
      return (yield* this.#strictPages(key, prefix)) ? 'read' : 'absent';
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return { record: key, error, prefix, until };
    }
  }

  /**
   * Returns whether it is there. Throws StorageError, in the end also where lines of a journal are damaged: in the
   * snapshot those count as unknown.
   */
  async *#strictPages(key: string, prefix: string): AsyncGenerator<readonly Use[], boolean> {
    const bytes = await this.records.readRecord(key);
    if (bytes === undefined) return false;
    const now = Math.floor(Date.now() / 1000);
    let damaged = 0;
    for (const { uses, unreadable } of (key === adoptedKey ? parseRegistrySchedule : parseUses)(bytes, now)) {
      yield uses;
      damaged += unreadable;
      await loopTurn();
    }
    if (damaged === 0) return true;
    this.log.warn({ record: key, lines: damaged }, 'a record of uses has unreadable lines');
    if (prefix === '' && key !== adoptedKey) {
      throw new StorageError('io', `record ${key} has ${damaged} damaged lines`);
    }
    return true;
  }
}

/** In a part that was divided: the fewest digits that no other part begins with. */
function newPart({ digest }: Use, parts: readonly string[]): string {
  const hex = hexOf(digest);
  let length = 1;
  while (parts.some((part) => part.startsWith(hex.slice(0, length)))) length += 1;
  return hex.slice(0, length);
}

function listIn(lists: Map<string, Use[]>, key: string): Use[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}

function setLatest(latest: Map<string, Use>, use: Use): void {
  const key = useKey(use.repository, use.digest);
  const known = latest.get(key);
  if (known === undefined || known.at < use.at) latest.set(key, use);
}

function parseMerged(bytes: Uint8Array): Map<string, number> {
  const merged = new Map<string, number>();
  for (const line of [...linePages(bytes)].flat()) {
    const [, since, key] = /^(\d{1,15}) (\S+)$/.exec(line) ?? [];
    if (since !== undefined && key !== undefined) merged.set(key, Number(since));
  }
  return merged;
}
