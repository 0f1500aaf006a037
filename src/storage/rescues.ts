import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { algorithmOf, hexOf, parseDigest, type Digest } from '../oci/digest.js';
import { mapAtOnce } from './pages.js';
import type { RecordStore } from './storage.js';

const notes = 'rescued/';
const marks = 'deleting/';
/** So long after it was announced nothing is deleted any more. */
const deletionMs = 10_000;
/** Whoever deletes is dead when its mark is still there so long after it was first seen. */
const deadMs = 3 * deletionMs;
const lookEveryMs = 20;
const atOnce = 8;

/**
 * Notes that stored content was linked anew without being fetched, and that a manifest came that may refer to such
 * content: nothing may have pointed to it, so that it was about to be deleted. A note is written after the link and
 * before a last look at the content. Who deletes announces it, then reads the notes, then deletes: so either it sees
 * the note, or whoever wrote the note sees the announcement and looks only when that deletion is over.
 */
export class Rescues {
  constructor(private readonly records: RecordStore) {}

  /** Returns when no deletion is under way that may not know of this. Throws StorageError. */
  async note(digest: Digest): Promise<void> {
    await this.records.writeRecord(keyOf(digest), stamp());
    let running = new Set(await this.records.listRecords(marks));
    const seenAt = performance.now();
    while (running.size > 0) {
      if (performance.now() - seenAt > deadMs) {
        for (const key of running) await this.records.removeRecord(key);
        return;
      }
      await delay(lookEveryMs);
      running = running.intersection(new Set(await this.records.listRecords(marks)));
    }
  }

  /** Notes that are listed from now on are seen; those that are written later wait for the end of this. */
  async announceDeletion(): Promise<Deletion> {
    const key = `${marks}${randomUUID()}`;
    const until = performance.now() + deletionMs;
    await this.records.writeRecord(key, stamp());
    return {
      inTime: () => performance.now() < until,
      [Symbol.asyncDispose]: () => this.records.removeRecord(key),
    };
  }

  async list(): Promise<Digest[]> {
    const digests = (await this.records.listRecords(notes)).map(digestIn);
    return digests.filter((digest) => digest !== undefined);
  }

  /** Forgets those until this second since 1970, and what dead replicas announced until then. */
  async forget(until: number, signal: AbortSignal): Promise<void> {
    const noted = (await this.records.listRecords(notes)).filter((key) => digestIn(key) !== undefined);
    const keys = [...noted, ...(await this.records.listRecords(marks))];
    await mapAtOnce(keys, atOnce, signal, async (key) => {
      const at = Number((await this.records.readRecord(key))?.toString('utf8'));
      if (!(at > until)) await this.records.removeRecord(key);
    });
  }
}

/** To be disposed of when nothing is being deleted any more. */
export interface Deletion extends AsyncDisposable {
  /** Whether something may still be deleted. */
  readonly inTime: () => boolean;
}

function stamp(): Buffer {
  return Buffer.from(`${Math.floor(Date.now() / 1000)}\n`);
}

function digestIn(key: string): Digest | undefined {
  return parseDigest(key.slice(notes.length).replace('-', ':'));
}

function keyOf(digest: Digest): string {
  return `${notes}${algorithmOf(digest)}-${hexOf(digest)}`;
}
