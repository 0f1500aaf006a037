import type { RecordStore } from '../storage/storage.js';
import { registrySchedule } from '../storage/layout.js';
import type { Logger } from '../telemetry/log.js';
import {
  digitOf,
  digits,
  formatUses,
  journalsFolder,
  journalTime,
  linesOf,
  mergedKey,
  parseRegistrySchedule,
  parseStoredBytes,
  parseUses,
  snapshotKey,
  useKey,
} from './records.js';
import type { UsageLog } from './usage-log.js';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { Use, UsageHistory } from './usage.js';

const pageSize = 1_000;
/** What {@link StoredUsage.compact} holds in memory. */
const mostAtOnce = 200_000;
/** Journals stay for so long after they came into the snapshot. */
const keepMs = 60 * 60_000;
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

  async *snapshot(signal: AbortSignal): AsyncGenerator<readonly Use[]> {
    for (const digit of digits) {
      signal.throwIfAborted();
      yield* pagesOf((await this.#readUses(snapshotKey(digit))) ?? []);
    }
  }

  async *noted(signal: AbortSignal, since = 0): AsyncGenerator<readonly Use[]> {
    const read = new Set(since > 0 ? this.#read : []);
    for (const key of [adoptedKey, ...(await this.records.listRecords(journalsFolder))]) {
      signal.throwIfAborted();
      if ((journalTime(key) ?? 0) < since) continue;
      const uses = await this.#readUses(key);
      if (uses === undefined) continue;
      yield* pagesOf(uses);
      read.add(key);
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
    for await (const page of this.noted(signal)) {
      for (const use of page) setLatest(latest, use);
      if (latest.size < mostAtOnce) continue;
      await this.#merge(latest, signal);
      latest.clear();
    }
    await this.#merge(latest, signal);
    await this.#retire(signal);
  }

  async save(usesOf: (digit: string) => Iterable<Use>, signal: AbortSignal): Promise<void> {
    for (const digit of digits) {
      signal.throwIfAborted();
      await this.#writePart(digit, usesOf(digit));
    }
    await this.#retire(signal);
  }

  async storedSince(ms: number, signal: AbortSignal): Promise<number> {
    let bytes = this.own.unwrittenBytes;
    for (const key of await this.records.listRecords(journalsFolder)) {
      signal.throwIfAborted();
      if ((journalTime(key) ?? 0) < ms) continue;
      const journal = await this.records.readRecord(key);
      if (journal !== undefined) bytes += parseStoredBytes(journal);
    }
    return bytes;
  }

  async #merge(uses: ReadonlyMap<string, Use>, signal: AbortSignal): Promise<void> {
    const byDigit = Map.groupBy(uses.values(), ({ digest }) => digitOf(digest));
    for (const [digit, fresh] of byDigit) {
      signal.throwIfAborted();
      const latest = new Map<string, Use>();
      for (const use of (await this.#readUses(snapshotKey(digit))) ?? []) setLatest(latest, use);
      for (const use of fresh) setLatest(latest, use);
      await this.#writePart(digit, latest.values());
    }
  }

  async #writePart(digit: string, uses: Iterable<Use>): Promise<void> {
    await this.records.writeRecord(snapshotKey(digit), formatUses(uses));
  }

  /** Notes which journals are in the snapshot now, and removes those that have been for long enough. */
  async #retire(signal: AbortSignal): Promise<void> {
    const now = Date.now();
    const before = parseMerged((await this.records.readRecord(mergedKey)) ?? Buffer.alloc(0));
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

  /** `undefined`: it is not there, or no longer. */
  async #readUses(key: string): Promise<Use[] | undefined> {
    const bytes = await this.records.readRecord(key);
    if (bytes === undefined) return undefined;
    const now = Math.floor(Date.now() / 1000);
    const { uses, unreadable } = (key === adoptedKey ? parseRegistrySchedule : parseUses)(bytes, now);
    if (unreadable > 0)
      this.log.warn({ record: key, lines: unreadable }, 'a record of uses has unreadable lines');
    return uses;
  }
}

function setLatest(latest: Map<string, Use>, use: Use): void {
  const key = useKey(use.repository, use.digest);
  const known = latest.get(key);
  if (known === undefined || known.at < use.at) latest.set(key, use);
}

function* pagesOf(uses: readonly Use[]): Generator<readonly Use[]> {
  for (let from = 0; from < uses.length; from += pageSize) yield uses.slice(from, from + pageSize);
}

function parseMerged(bytes: Uint8Array): Map<string, number> {
  const merged = new Map<string, number>();
  for (const line of linesOf(bytes)) {
    const [, since, key] = /^(\d{1,15}) (\S+)$/.exec(line) ?? [];
    if (since !== undefined && key !== undefined) merged.set(key, Number(since));
  }
  return merged;
}
