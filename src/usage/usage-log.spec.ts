import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { digestOf } from '../oci/digest.js';
import { parseRepository, type Repository } from '../oci/name.js';
import { createLogger } from '../telemetry/log.js';
import { unrecorded, UsageLog } from './usage-log.js';

const repository = parseRepository('library/alpine') as Repository;
const [a, b] = [digestOf(Buffer.from('a')), digestOf(Buffer.from('b'))];
const begin = Date.UTC(2026, 0, 1);
const second = (ms: number) => Math.floor((begin + ms) / 1000);

let records: MemoryRecords;
let logged: { level: string; msg: string }[];
let usage: UsageLog;

beforeEach(() => {
  vi.useFakeTimers({ now: begin });
  records = new MemoryRecords();
  logged = [];
  const log = createLogger(
    { level: 'info', formatter: 'json', fields: {} },
    { write: (line: string) => void logged.push(JSON.parse(line) as (typeof logged)[number]) },
  );
  usage = new UsageLog(records, log, 900_000);
});
afterEach(() => {
  vi.useRealTimers();
});

const journals = () => [...records.records.values()].map((bytes) => bytes.toString());

describe('UsageLog', () => {
  it('writes the first use after a second, and those after it half a minute later', async () => {
    usage.touch(repository, a);
    await vi.advanceTimersByTimeAsync(999);
    expect(journals()).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(journals()).toEqual([`stored 0\n${second(0)} ${repository}@${a}\n`]);
    usage.touch(repository, b);
    await vi.advanceTimersByTimeAsync(5_000);
    usage.touch(repository, b);
    await vi.advanceTimersByTimeAsync(24_999);
    expect(journals()).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(journals()[1]).toBe(`stored 0\n${second(6_000)} ${repository}@${b}\n`);
  });

  it('writes nothing when nothing was used', async () => {
    usage.touch(repository, a);
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(journals()).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('counts what is being read as used, until it is let go', async () => {
    const release = usage.hold(repository, a);
    const releaseOther = usage.hold(repository, a);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(journals()).toEqual(
      [1_000, 31_000, 61_000].map((ms) => `stored 0\n${second(ms)} ${repository}@${a}\n`),
    );
    release();
    await vi.advanceTimersByTimeAsync(5_000);
    expect([...usage.unwritten()].at(-1)).toEqual({ repository, digest: a, at: second(66_000) });
    releaseOther();
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(journals().at(-1)).toBe(`stored 0\n${second(66_000)} ${repository}@${a}\n`);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('says how much was stored, once', async () => {
    usage.stored(100);
    usage.stored(23);
    expect(usage.unwrittenBytes).toBe(123);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(journals()).toEqual(['stored 123\n']);
    expect(usage.unwrittenBytes).toBe(0);
  });

  it('keeps what cannot be written, says so once, and writes it later', async () => {
    records.full = true;
    usage.touch(repository, a);
    usage.stored(7);
    await vi.advanceTimersByTimeAsync(95_000);
    expect([...usage.unwritten()]).toEqual([{ repository, digest: a, at: second(0) }]);
    expect(logged.map(({ level }) => level)).toEqual(['warning']);
    records.full = false;
    await vi.advanceTimersByTimeAsync(30_000);
    expect(journals()).toEqual([`stored 7\n${second(0)} ${repository}@${a}\n`]);
    expect(logged.map(({ level }) => level)).toEqual(['warning', 'info']);
  });

  it('holds a bounded number of uses, and forgets the oldest', async () => {
    records.full = true;
    const digests = Array.from({ length: 200_010 }, (_, i) => digestOf(Buffer.from(`${i}`)));
    for (const digest of digests) usage.touch(repository, digest);
    await vi.advanceTimersByTimeAsync(1_000);
    const kept = new Set([...usage.unwritten()].map(({ digest }) => digest));
    expect(kept.size).toBeGreaterThan(150_000);
    expect(kept.size).toBeLessThanOrEqual(200_000);
    expect(kept.has(digests.at(-1) ?? a)).toBe(true);
    expect(digests.slice(0, 10).some((digest) => kept.has(digest))).toBe(false);
  });

  it('writes what is left when it is closed', async () => {
    usage.touch(repository, a);
    await usage.close();
    expect(journals()).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('closes although the storage takes nothing', async () => {
    records.full = true;
    usage.touch(repository, a);
    await usage.close();
    expect(logged).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('names its journals in the order of their making, whatever the clock does', async () => {
    usage.touch(repository, a);
    await vi.advanceTimersByTimeAsync(1_000);
    vi.setSystemTime(begin - 60_000);
    usage.touch(repository, b);
    await vi.advanceTimersByTimeAsync(30_000);
    const keys = [...records.records.keys()];
    expect(keys).toHaveLength(2);
    expect([...keys].sort()).toEqual(keys);
  });
});

describe('unrecorded', () => {
  it('takes everything', () => {
    unrecorded.touch(repository, a);
    unrecorded.stored(1);
    expect(unrecorded.hold(repository, a)()).toBeUndefined();
  });
});
