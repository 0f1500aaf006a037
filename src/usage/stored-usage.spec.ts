import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { digestOf, type Digest } from '../oci/digest.js';
import { parseRepository, type Repository } from '../oci/name.js';
import { createLogger } from '../telemetry/log.js';
import { hasPrefix } from './records.js';
import { StoredUsage } from './stored-usage.js';
import { UsageLog } from './usage-log.js';
import type { SkipUses, UnknownUses, Use } from './usage.js';

const signal = new AbortController().signal;
const repository = parseRepository('ghcr.io/o/i') as Repository;
const digest = (seed: string): Digest => digestOf(Buffer.from(seed));
const begin = Date.UTC(2026, 0, 1);
const now = begin / 1000;
const use = (seed: string, at: number): Use => ({ repository, digest: digest(seed), at });

let records: MemoryRecords;
let logged: Record<string, unknown>[];
let usage: StoredUsage;
let own: UsageLog;
let skipped: UnknownUses[];
const skip: SkipUses = async (uses) => void skipped.push(uses);

beforeEach(() => {
  vi.useFakeTimers({ now: begin });
  records = new MemoryRecords();
  logged = [];
  skipped = [];
  const log = createLogger(
    { level: 'info', formatter: 'json', fields: {} },
    { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
  );
  own = new UsageLog(records, log, 900_000);
  usage = new StoredUsage(records, own, log);
});
afterEach(() => {
  vi.useRealTimers();
});

async function all(pages: AsyncIterable<readonly Use[]>): Promise<Use[]> {
  const uses: Use[] = [];
  for await (const page of pages) {
    expect(page.length).toBeLessThanOrEqual(5_000);
    uses.push(...page);
  }
  return uses;
}

function journal(process: string, ms: number, lines: readonly string[]): string {
  const key = `usage/journal/${process}/${String(ms).padStart(15, '0')}`;
  records.records.set(key, Buffer.from(lines.map((line) => `${line}\n`).join('')));
  return key;
}

function lineOf({ repository, digest, at }: Use): string {
  return `${at} ${repository}@${digest}`;
}

describe('StoredUsage', () => {
  it('knows nothing at first', async () => {
    expect(await all(usage.snapshot(signal, skip))).toEqual([]);
    expect(await all(usage.noted(signal, skip))).toEqual([]);
    expect(await usage.storedSince(0, signal)).toBe(0);
  });

  it('reads what processes noted', async () => {
    own.touch(repository, digest('a'));
    await own.close();
    journal('other', begin, ['stored 5', lineOf(use('b', 10))]);
    expect(new Set(await all(usage.noted(signal, skip)))).toEqual(new Set([use('a', now), use('b', 10)]));
  });

  it('gives back what is saved, in place of what was', async () => {
    const uses = Array.from({ length: 12_000 }, (_, i) => use(`${i}`, i));
    await usage.save((prefix) => [uses.filter((each) => hasPrefix(each.digest, prefix))], signal);
    expect(new Set((await all(usage.snapshot(signal, skip))).map(lineOf))).toEqual(new Set(uses.map(lineOf)));
    await usage.save(() => [], signal);
    expect(await all(usage.snapshot(signal, skip))).toEqual([]);
  });

  it('keeps journals for an hour after they came into the snapshot', async () => {
    const key = journal('p', begin - 24 * 60 * 60_000, [lineOf(use('a', 1))]);
    await usage.compact(signal);
    expect(records.records.has(key)).toBe(true);
    vi.setSystemTime(begin + 59 * 60_000);
    await usage.compact(signal);
    expect(records.records.has(key)).toBe(true);
    vi.setSystemTime(begin + 60 * 60_000);
    await usage.compact(signal);
    expect(records.records.has(key)).toBe(false);
    expect(await all(usage.snapshot(signal, skip))).toEqual([use('a', 1)]);
    await usage.compact(signal);
    expect(records.text('usage/merged')).toBe('');
  });

  it('reads only what was written since, for who has read the rest', async () => {
    journal('p', begin - 1, [lineOf(use('a', 1))]);
    journal('q', begin, [lineOf(use('b', 2))]);
    expect(await all(usage.noted(signal, skip, begin))).toEqual([use('b', 2)]);
  });

  it('removes what it has read, and after that what came later', async () => {
    const old = journal('p', begin - 1, [lineOf(use('a', 1))]);
    await all(usage.noted(signal, skip));
    const late = journal('p', begin, [lineOf(use('b', 2))]);
    await all(usage.noted(signal, skip, begin));
    await usage.save(() => [], signal);
    vi.setSystemTime(begin + 2 * 60 * 60_000);
    await usage.save(() => [], signal);
    expect([old, late].filter((key) => records.records.has(key))).toEqual([]);
  });

  it('never removes a journal that it has not read', async () => {
    const read = journal('p', begin, [lineOf(use('a', 1))]);
    await all(usage.noted(signal, skip));
    const late = journal('p', begin - 1000, [lineOf(use('b', 2))]);
    await usage.save(() => [[use('a', 1)]], signal);
    vi.setSystemTime(begin + 2 * 60 * 60_000);
    await usage.save(() => [[use('a', 1)]], signal);
    expect(records.records.has(read)).toBe(false);
    expect(records.records.has(late)).toBe(true);
  });

  it('merges the latest use of each', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(20), fc.nat(1_000)), { minLength: 1 }),
        fc.integer({ min: 1, max: 5 }),
        async (pairs, rounds) => {
          records.records.clear();
          const uses = pairs.map(([seed, at]) => use(`${seed}`, at));
          const each = Math.ceil(uses.length / rounds);
          for (let from = 0; from < uses.length; from += each) {
            journal('p', begin + from, uses.slice(from, from + each).map(lineOf));
            await usage.compact(signal);
          }
          const latest = new Map<string, number>();
          for (const { digest: content, at } of uses) {
            latest.set(content, Math.max(at, latest.get(content) ?? 0));
          }
          const found = (await all(usage.snapshot(signal, skip))).map((one) => [one.digest, one.at] as const);
          expect(new Map(found)).toEqual(latest);
          expect(found).toHaveLength(latest.size);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('skips lines that cannot be read, and says how many', async () => {
    const bad = [
      '',
      'x',
      `1 ../..@${digest('a')}`,
      '1 a@sha256:1',
      `-1 a@${digest('a')}`,
      `1 a@${digest('a')} b`,
    ];
    journal('p', begin, ['stored 5', ...bad, lineOf(use('a', 3))]);
    expect(await all(usage.noted(signal, skip))).toEqual([use('a', 3)]);
    expect(logged).toEqual([expect.objectContaining({ level: 'warning', lines: 5 })]);
    // Any of them may have been of anything, no later than this.
    expect(skipped).toEqual([expect.objectContaining({ prefix: '', until: now })]);
  });

  it('goes on past a journal that cannot be read, and keeps it until a look knows of it', async () => {
    const bad = journal('p', begin - 5_000, [lineOf(use('a', 3))]);
    journal('q', begin, [lineOf(use('b', 4))]);
    records.unreadable.add(bad);
    await usage.compact(signal);
    vi.setSystemTime(begin + 2 * 60 * 60_000);
    await usage.compact(signal);
    expect(await all(usage.snapshot(signal, skip))).toEqual([use('b', 4)]);
    expect(records.records.has(bad)).toBe(true);
    expect(await all(usage.noted(signal, skip))).toEqual([]);
    expect(skipped).toEqual([expect.objectContaining({ record: bad, prefix: '', until: now - 5 })]);
    await usage.save(() => [], signal);
    vi.setSystemTime(begin + 4 * 60 * 60_000);
    await usage.save(() => [], signal);
    expect(records.records.has(bad)).toBe(false);
  });

  it('goes on past a part of the snapshot that cannot be read, and writes it anew', async () => {
    const uses = Array.from({ length: 100 }, (_, i) => use(`${i}`, i));
    await usage.save((prefix) => [uses.filter((each) => hasPrefix(each.digest, prefix))], signal);
    records.unreadable.add('usage/snapshot/a');
    const left = uses.filter((each) => !hasPrefix(each.digest, 'a'));
    expect(new Set(await all(usage.snapshot(signal, skip)))).toEqual(new Set(left));
    expect(skipped).toEqual([
      expect.objectContaining({ record: 'usage/snapshot/a', prefix: 'a', until: now }),
    ]);
  });

  it('divides a part of the snapshot that grows too long for a record, and joins it again', async () => {
    const long = parseRepository(`${'a'.repeat(120)}/${'b'.repeat(120)}`) as Repository;
    const uses = Array.from({ length: 30_000 }, (_, i): Use => ({ ...use(`${i}`, i), repository: long }))
      .map((each) => ({ ...each, digest: `sha256:a${each.digest.slice(8)}` as Digest }))
      .toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
    const pages = (prefix: string): Use[][] => {
      const of = uses.filter((each) => hasPrefix(each.digest, prefix));
      return Array.from({ length: Math.ceil(of.length / 1_000) }, (_, n) =>
        of.slice(n * 1_000, n * 1_000 + 1_000),
      );
    };
    const parts = async (): Promise<string[]> => records.listRecords('usage/snapshot/a');
    await usage.save(pages, signal);
    expect(await parts()).toHaveLength(16);
    journal('p', begin, [lineOf({ ...(uses[0] as Use), at: now })]);
    await usage.compact(signal);
    expect(await all(usage.snapshot(signal, skip))).toEqual([{ ...uses[0], at: now }, ...uses.slice(1)]);
    uses.length = 10;
    await usage.save(pages, signal);
    expect(await parts()).toEqual(['usage/snapshot/a']);
    expect(await all(usage.snapshot(signal, skip))).toEqual(uses);
  });

  it('takes a use in the future for one now', async () => {
    journal('p', begin, [lineOf(use('a', now + 1_000))]);
    expect(await all(usage.noted(signal, skip))).toEqual([use('a', now)]);
  });

  it('adds up what was stored, its own too', async () => {
    journal('p', begin - 1, ['stored 1']);
    journal('p', begin, ['stored 10', lineOf(use('a', 1))]);
    journal('q', begin + 1, ['stored 100']);
    own.stored(1_000);
    expect(await usage.storedSince(begin, signal)).toBe(1_110);
  });

  it('gives what its process has not written', () => {
    own.touch(repository, digest('a'));
    expect([...usage.unwritten()]).toEqual([use('a', now)]);
  });

  describe('where a registry had the storage before', () => {
    const adopted = 'adopted/scheduler-state.json';
    const name = parseRepository('library/alpine') as Repository;
    const entry = { Key: 'x', Expiry: new Date(begin).toISOString(), EntryType: 0 };

    it('takes its schedule for uses a week before, until that is in the snapshot', async () => {
      const schedule = {
        [`library/alpine@${digest('a')}`]: entry,
        [`library/alpine@${digest('b')}`]: { ...entry, Expiry: '2026-01-02T03:04:05.678901234+02:00' },
        'library/alpine:latest': entry,
        [`library/alpine@${digest('c')}`]: { ...entry, Expiry: 'soon' },
      };
      records.records.set(adopted, Buffer.from(JSON.stringify(schedule)));
      const week = 168 * 60 * 60;
      expect(await all(usage.noted(signal, skip))).toEqual([
        { repository: name, digest: digest('a'), at: now - week },
        { repository: name, digest: digest('b'), at: Date.UTC(2026, 0, 2, 1, 4, 5) / 1000 - week },
      ]);
      expect(logged).toEqual([expect.objectContaining({ record: adopted, lines: 2 })]);
      await usage.compact(signal);
      vi.setSystemTime(begin + 61 * 60_000);
      await usage.compact(signal);
      expect(records.records.has(adopted)).toBe(false);
      expect(await all(usage.snapshot(signal, skip))).toHaveLength(2);
    });

    it.each(['', 'null', '{"a":', '[1]'])('lives with a schedule like %j', async (text) => {
      records.records.set(adopted, Buffer.from(text));
      expect(await all(usage.noted(signal, skip))).toEqual([]);
      expect(logged).toHaveLength(1);
    });
  });

  it('stops when it is told to', async () => {
    const stop = new AbortController();
    stop.abort(new Error('stopped'));
    journal('p', begin, [lineOf(use('a', 1))]);
    await expect(usage.compact(stop.signal)).rejects.toThrow('stopped');
    await expect(usage.save(() => [], stop.signal)).rejects.toThrow('stopped');
    await expect(all(usage.snapshot(stop.signal, skip))).rejects.toThrow('stopped');
    await expect(usage.storedSince(0, stop.signal)).rejects.toThrow('stopped');
    expect(records.records.size).toBe(1);
  });
});
