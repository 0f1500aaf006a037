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
 * - `usage/snapshot/<first hexadecimal digit of the digest>`: what all noted.
 * - `usage/merged`: which journals are in the snapshot, and since when.
 */
export const journalsFolder = 'usage/journal/';
export const mergedKey = 'usage/merged';
export const digits: readonly string[] = [...'0123456789abcdef'];

export function snapshotKey(digit: string): string {
  return `usage/snapshot/${digit}`;
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

export function digitOf(digest: Digest): string {
  return hexOf(digest).charAt(0);
}

export function formatUses(uses: Iterable<Use>): Buffer {
  let text = '';
  for (const { repository, digest, at } of uses) text += `${at} ${repository}@${digest}\n`;
  return Buffer.from(text, 'latin1');
}

export function formatJournal(storedBytes: number, uses: ReadonlyMap<string, number>): Buffer {
  let text = `stored ${storedBytes}\n`;
  for (const [key, at] of uses) text += `${at} ${key}\n`;
  return Buffer.from(text, 'latin1');
}

/** The lines of a journal or a part of the snapshot. What lies in the future is now: clocks differ. */
export function parseUses(
  bytes: Uint8Array,
  now: number,
): { readonly uses: Use[]; readonly unreadable: number } {
  const uses: Use[] = [];
  let unreadable = 0;
  for (const line of linesOf(bytes)) {
    const use = parseUse(line, now);
    if (use !== undefined) uses.push(use);
    else if (!storedLine.test(line)) unreadable += 1;
  }
  return { uses, unreadable };
}

export function parseStoredBytes(bytes: Uint8Array): number {
  const [first = ''] = linesOf(bytes);
  return Number(storedLine.exec(first)?.[1] ?? 0);
}

/** registry:2 keeps content for so long from when it fetched it. */
const registryTtlSeconds = 7 * 24 * 60 * 60;

/**
 * registry:2's schedule (distribution, registry/proxy/scheduler): when each content would be deleted, so when it was
 * fetched. What is malformed counts as unreadable.
 */
export function parseRegistrySchedule(
  bytes: Uint8Array,
  now: number,
): { readonly uses: Use[]; readonly unreadable: number } {
  const uses: Use[] = [];
  let unreadable = 0;
  for (const [key, value] of Object.entries(parseJson(bytes) ?? { '': undefined })) {
    const expiry = (value as { Expiry?: unknown } | null | undefined)?.Expiry;
    const seconds = typeof expiry === 'string' ? Math.floor(Date.parse(expiry) / 1000) : NaN;
    const at = Math.max(0, seconds - registryTtlSeconds);
    const use = Number.isNaN(at) ? undefined : parseUse(`${at} ${key}`, now);
    if (use === undefined) unreadable += 1;
    else uses.push(use);
  }
  return { uses, unreadable };
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

function parseJson(bytes: Uint8Array): object | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

export function linesOf(bytes: Uint8Array): string[] {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '');
}
