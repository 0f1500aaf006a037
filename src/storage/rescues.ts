import { algorithmOf, hexOf, parseDigest, type Digest } from '../oci/digest.js';
import type { RecordStore } from './storage.js';

const folder = 'rescued/';

/**
 * Notes that stored content was linked anew without being fetched, and that a manifest came that may refer to such
 * content: nothing may have pointed to it, so that it was about to be deleted. Written after the link and before a
 * last look at the content; read before each deletion.
 */
export class Rescues {
  constructor(private readonly records: RecordStore) {}

  async note(digest: Digest): Promise<void> {
    await this.records.writeRecord(keyOf(digest), Buffer.from(`${Math.floor(Date.now() / 1000)}\n`));
  }

  async list(): Promise<Digest[]> {
    const digests = (await this.records.listRecords(folder)).map(digestIn);
    return digests.filter((digest) => digest !== undefined);
  }

  /** Forgets those until this second since 1970. */
  async forget(until: number, signal: AbortSignal): Promise<void> {
    for (const key of await this.records.listRecords(folder)) {
      signal.throwIfAborted();
      const at = Number((await this.records.readRecord(key))?.toString('utf8'));
      if (digestIn(key) !== undefined && !(at > until)) await this.records.removeRecord(key);
    }
  }
}

function digestIn(key: string): Digest | undefined {
  return parseDigest(key.slice(folder.length).replace('-', ':'));
}

function keyOf(digest: Digest): string {
  return `${folder}${algorithmOf(digest)}-${hexOf(digest)}`;
}
