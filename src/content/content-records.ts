import { setImmediate as breathe } from 'node:timers/promises';
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

export type Hidden = readonly [at: number, digest: Digest];

const pageBytes = 64 * 1024;

/** Since when content is hidden: lines of a time in seconds and a digest. In pages. */
export async function* readHidden(records: RecordStore): AsyncGenerator<readonly Hidden[]> {
  const bytes = (await records.readRecord(hiddenKey)) ?? Buffer.alloc(0);
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf('\n', from + pageBytes);
    const to = end === -1 ? bytes.length : end + 1;
    yield parseHidden(bytes.toString('latin1', from, to));
    from = to;
  }
}

function parseHidden(text: string): Hidden[] {
  return text.split('\n').flatMap((line) => {
    const [at = '', name = ''] = line.split(' ');
    const digest = parseDigest(name);
    return digest !== undefined && /^\d{1,12}$/.test(at) ? [[Number(at), digest] as const] : [];
  });
}

export async function writeHidden(records: RecordStore, pages: Iterable<readonly Hidden[]>): Promise<void> {
  const text: Buffer[] = [];
  for (const page of pages) {
    text.push(Buffer.from(page.map(([at, digest]) => `${at} ${digest}\n`).join('')));
    await breathe();
  }
  if (text.length === 0) await records.removeRecord(hiddenKey);
  else await records.writeRecord(hiddenKey, Buffer.concat(text));
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
