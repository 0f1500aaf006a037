import { randomUUID } from 'node:crypto';
import { loopTurn } from '../async/loop-turn.js';
import { parseDigest, type Digest } from '../oci/digest.js';
import { StorageError, type RecordStore } from '../storage/storage.js';
import { linePages } from '../usage/records.js';

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

export interface Hidden {
  readonly at: number;
  readonly digest: Digest;
}

/** A record grows no longer than about this, in bytes; what does not fit goes into further ones. */
const longestRecord = 8 * 1024 * 1024;
const moreFolder = 'content/hidden-more/';

/**
 * Since when content is hidden: lines of a time in seconds and a digest. Where that is more than a record takes, its
 * last line is `more <records>`: the keys of the others, below {@link moreFolder}. In pages. A record that cannot be read
 * is skipped: its content counts as hidden from now on.
 */
export async function* readHidden(
  records: RecordStore,
  skip: (record: string, error: Error) => Promise<void>,
): AsyncGenerator<readonly Hidden[]> {
  const keys = [hiddenKey];
  for (let key = keys.shift(); key !== undefined; key = keys.shift()) {
    try {
      const bytes = (await records.readRecord(key)) ?? Buffer.alloc(0);
      for (const lines of linePages(bytes)) {
        yield parseHidden(lines);
        if (key === hiddenKey) keys.push(...lines.flatMap(moreIn));
      }
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      await skip(key, error);
    }
  }
}

function moreIn(line: string): string[] {
  return line.startsWith('more ')
    ? line
        .split(' ')
        .slice(1)
        .map((name) => moreFolder + name)
    : [];
}

function parseHidden(lines: readonly string[]): Hidden[] {
  return lines.flatMap((line) => {
    const [at = '', name = ''] = line.split(' ');
    const digest = parseDigest(name);
    return digest !== undefined && /^\d{1,12}$/.test(at) ? [{ at: Number(at), digest }] : [];
  });
}

/** The first record goes last: it says which of the others count. */
export async function writeHidden(records: RecordStore, pages: Iterable<readonly Hidden[]>): Promise<void> {
  const before = await records.listRecords(moreFolder);
  const more: string[] = [];
  let text: Buffer[] = [];
  let length = 0;
  for (const page of pages) {
    const bytes = Buffer.from(page.map(({ at, digest }) => `${at} ${digest}\n`).join(''));
    await loopTurn();
    if (length + bytes.byteLength > longestRecord) {
      const name = randomUUID();
      await records.writeRecord(moreFolder + name, Buffer.concat(text));
      more.push(name);
      text = [];
      length = 0;
    }
    text.push(bytes);
    length += bytes.byteLength;
  }
  if (more.length > 0) text.push(Buffer.from(`more ${more.join(' ')}\n`));
  if (text.length === 0) await records.removeRecord(hiddenKey);
  else await records.writeRecord(hiddenKey, Buffer.concat(text));
  for (const key of before) await records.removeRecord(key);
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
