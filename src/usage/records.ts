import { hexOf, parseDigest, type Digest } from '../oci/digest.js';
import { parseRepository, type Repository } from '../oci/name.js';
import type { Use } from './usage.js';

/**
 * Uses as text, in records of the storage. A line of a use is its second since 1970 and what was used:
 *
 *     1763725200 library/alpine@sha256:4bcf…
 *
 * - `usage/journal/<process>/<milliseconds since 1970>`: what one process noted since its last one. The first line says
 *   how many bytes it stored meanwhile: `stored 123456`.
 * - `usage/snapshot/<first hexadecimal digits of the digest>`: what all noted; one digit, or more where there is much.
 * - `usage/merged`: which journals are in the snapshot, and since when.
 */
export const journalsFolder = 'usage/journal/';
export const mergedKey = 'usage/merged';
export const digits: readonly string[] = [...'0123456789abcdef'];

export const snapshotFolder = 'usage/snapshot/';
/** A record of uses grows no longer than about this, in bytes: it is read as a whole. */
export const longestRecord = 8 * 1024 * 1024;

export function snapshotKey(prefix: string): string {
  return snapshotFolder + prefix;
}

/** Keys of one process sort by time. */
export function journalKey(process: string, ms: number): string {
  return `${journalsFolder}${process}/${String(ms).padStart(15, '0')}`;
}

/** In milliseconds since 1970, by the clock of whoever wrote it; `undefined`: not one of ours. */
export function journalTime(key: string): number | undefined {
  const name = key.slice(key.lastIndexOf('/') + 1);
  return /^\d{15}$/.test(name) ? Number(name) : undefined;
}

/** What a use is of, as a key. */
export function useKey(repository: Repository, digest: Digest): string {
  return `${repository}@${digest}`;
}

export function useOf(key: string, at: number): Use {
  const [repository, digest] = key.split('@') as [Repository, Digest];
  return { repository, digest, at };
}

/** Whether the digest's hexadecimal digits begin like this. */
export function hasPrefix(digest: Digest, prefix: string): boolean {
  return hexOf(digest).startsWith(prefix);
}

export function formatUses(uses: Iterable<Use>): Buffer {
  let text = '';
  for (const { repository, digest, at } of uses) text += `${at} ${repository}@${digest}\n`;
  return Buffer.from(text, 'latin1');
}

export function formatJournal(storedBytes: number, uses: Iterable<readonly [string, number]>): Buffer {
  let text = `stored ${storedBytes}\n`;
  for (const [key, at] of uses) text += `${at} ${key}\n`;
  return Buffer.from(text, 'latin1');
}

/** Uses, and how many lines were none. */
export interface UsePage {
  readonly uses: readonly Use[];
  readonly unreadable: number;
}

/** The lines of a journal or a part of the snapshot, in pages. A use in the future is one now: clocks differ. */
export function* parseUses(bytes: Uint8Array, now: number): Generator<UsePage> {
  for (const lines of linePages(bytes)) {
    yield pageOf(lines.filter((line) => !storedLine.test(line)).map((line) => parseUse(line, now)));
  }
}

function pageOf(parsed: readonly (Use | undefined)[]): UsePage {
  const uses = parsed.filter((use) => use !== undefined);
  return { uses, unreadable: parsed.length - uses.length };
}

export function parseStoredBytes(bytes: Uint8Array): number {
  const first = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 64)).toString(
    'latin1',
  );
  return Number(storedLine.exec(first.split('\n', 1)[0] ?? '')?.[1] ?? 0);
}

/** registry:2 keeps content for so long from when it fetched it. */
const registryTtlSeconds = 7 * 24 * 60 * 60;

/**
 * registry:2's schedule (distribution, registry/proxy/scheduler): when each content would be deleted, so when it was
 * fetched; in pages. A JSON object of flat objects, read one after the other, however long it is. What is malformed
 * counts as unreadable.
 */
export function* parseRegistrySchedule(bytes: Uint8Array, now: number): Generator<UsePage> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  let page: (Use | undefined)[] = [];
  let rest = 0;
  for (const { 0: entry, 1: key = '', 2: value = '', index } of text.matchAll(scheduleEntry)) {
    if (!between.test(text.slice(rest, index))) page.push(undefined);
    rest = index + entry.length;
    page.push(parseEntry(key, value, now));
    if (page.length < 1_000) continue;
    yield pageOf(page);
    page = [];
  }
  if (rest === 0 ? !/^\s*\{\s*\}\s*$/.test(text) : !between.test(text.slice(rest))) page.push(undefined);
  if (page.length > 0) yield pageOf(page);
}

/** `"repository@digest": {…}` */
const scheduleEntry = /"([^"\\]{1,512})"\s*:\s*(\{[^{}]{0,1024}\})/g;
const between = /^[\s{},]{0,1024}$/;

function parseEntry(key: string, value: string, now: number): Use | undefined {
  const expiry = (parseJson(value) as { Expiry?: unknown } | undefined)?.Expiry;
  const seconds = typeof expiry === 'string' ? Math.floor(Date.parse(expiry) / 1000) : NaN;
  return Number.isNaN(seconds)
    ? undefined
    : parseUse(`${Math.max(0, seconds - registryTtlSeconds)} ${key}`, now);
}

const storedLine = /^stored (\d{1,15})$/;
const useLine = /^(\d{1,12}) ([^@ ]+)@([^@ ]+)$/;

function parseUse(line: string, now: number): Use | undefined {
  const [, at, name, content] = useLine.exec(line) ?? [];
  if (at === undefined || name === undefined || content === undefined) return undefined;
  const repository = parseRepository(name);
  const digest = parseDigest(content);
  if (repository === undefined || digest === undefined) return undefined;
  return { repository, digest, at: Math.min(Number(at), now) };
}

function parseJson(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

const pageBytes = 64 * 1024;

/** The lines of a record that are not empty, in pages of about 64 KiB. */
export function* linePages(record: Uint8Array): Generator<string[]> {
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf('\n', from + pageBytes);
    const to = end === -1 ? bytes.length : end + 1;
    yield bytes
      .toString('latin1', from, to)
      .split('\n')
      .filter((line) => line !== '');
    from = to;
  }
}
