import { parseDigest, type Digest } from '../oci/digest.js';
import type { RecordStore } from '../storage/storage.js';

const hiddenKey = 'content/hidden';
const summaryKey = 'content/summary.json';

/** What a look through the storage found. Times are seconds since 1970. */
export interface Summary {
  readonly at: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly hiddenBytes: number;
  /** Before this nothing expires; `null`: nothing will. */
  readonly nextExpiry: number | null;
  /** Before this nothing that is hidden is deleted; `null`: nothing is hidden. */
  readonly nextDeletion: number | null;
  /** The times to live that `nextExpiry` was worked out with. */
  readonly ttls: string;
}

/** Since when content is hidden: lines of a time in seconds and a digest. */
export async function readHidden(records: RecordStore): Promise<(readonly [at: number, digest: Digest])[]> {
  const bytes = await records.readRecord(hiddenKey);
  const found: (readonly [number, Digest])[] = [];
  for (const line of bytes?.toString('utf8').split('\n') ?? []) {
    const [at, text] = line.split(' ');
    const digest = parseDigest(text ?? '');
    if (digest !== undefined && /^\d{1,12}$/.test(at ?? '')) found.push([Number(at), digest]);
  }
  return found;
}

export async function writeHidden(
  records: RecordStore,
  hidden: Iterable<readonly [at: number, digest: Digest]>,
): Promise<void> {
  const lines: string[] = [];
  for (const [at, digest] of hidden) lines.push(`${at} ${digest}\n`);
  if (lines.length === 0) await records.removeRecord(hiddenKey);
  else await records.writeRecord(hiddenKey, Buffer.from(lines.join('')));
}

/** `undefined` where there is none that this version understands. */
export async function readSummary(records: RecordStore): Promise<Summary | undefined> {
  const bytes = await records.readRecord(summaryKey);
  if (bytes === undefined) return undefined;
  try {
    const found = JSON.parse(bytes.toString('utf8')) as Partial<Summary>;
    const numbers = [found.at, found.blobs, found.bytes, found.hiddenBytes];
    return numbers.every((value) => Number.isSafeInteger(value)) ? (found as Summary) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export async function writeSummary(records: RecordStore, summary: Summary): Promise<void> {
  await records.writeRecord(summaryKey, Buffer.from(`${JSON.stringify(summary)}\n`));
}
