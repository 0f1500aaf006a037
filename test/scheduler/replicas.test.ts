import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { startProcess, until, untilLogged, untilReady, type RunningProcess } from '../parts/process.js';
import { startRedis, type RedisServer } from '../parts/redis.js';
import { patience } from '../parts/patience.js';

const node = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url));
const script = fileURLToPath(new URL('job-process.ts', import.meta.url));
const graceMs = 3_000;

interface Line {
  readonly at: number;
  readonly pid: number;
  readonly what: string;
  readonly value: string;
}

/** Runs as their processes have noted them, in the order of their beginning. */
interface Run {
  readonly pid: number;
  readonly slot: number;
  readonly began: number;
  /** Places in the ledger. */
  readonly first: number;
  readonly last: number;
  readonly ended: boolean;
}

let stack: AsyncDisposableStack;
let redis: RedisServer;
let folder: string;
let processes: RunningProcess[];

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = stack.use(await temporaryFolder()).path;
  redis = stack.use(await startRedis());
  await writeFile(ledger(), '');
});
afterEach(() => stack.disposeAsync());

const ledger = () => join(folder, 'ledger');
const inTime = patience;

async function startAll(count: number, schedule: string, steps: number, stepMs: number): Promise<void> {
  const never = { schedule: 'never' };
  const config = {
    version: '0.1',
    storage: { filesystem: { rootdirectory: join(folder, 'root') }, delete: { enabled: true } },
    redis: { addr: redis.addr, readtimeout: '2s' },
    proxy: { remoteurl: 'http://127.0.0.1:1' },
    cluster: { locktimeout: '2s' },
    scheduler: {
      ...Object.fromEntries(['expire', 'evict', 'reindex', 'scrub', 'prewarm'].map((name) => [name, never])),
      grace: `${graceMs}ms`,
      sweep: { schedule },
    },
  };
  const path = join(folder, 'config.yml');
  await writeFile(path, JSON.stringify(config));
  const args = [script, path, ledger(), `${steps}`, `${stepMs}`];
  processes = await Promise.all(
    Array.from({ length: count }, async () => {
      const running = stack.use(await startProcess(node, args));
      await untilReady(running, 'a replica', (signal) => untilLogged(running, /"ready"/, signal));
      return running;
    }),
  );
}

async function lines(): Promise<Line[]> {
  const text = await readFile(ledger(), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([at, pid, what = '', value = '']) => ({ at: Number(at), pid: Number(pid), what, value }));
}

async function runs(): Promise<Run[]> {
  const all = await lines();
  return all.flatMap(({ what, pid, value, at }, first) => {
    if (what !== 'begin') return [];
    const next = all.findIndex((line, index) => index > first && line.pid === pid && line.what === 'begin');
    const own = all.slice(first, next === -1 ? undefined : next).filter((line) => line.pid === pid);
    const end = own.at(-1);
    if (end === undefined) return [];
    return [
      { pid, slot: Number(value), began: at, first, last: all.indexOf(end), ended: end.what === 'end' },
    ];
  });
}

function expectDisjoint(all: readonly Run[]): void {
  const overlapping = all.filter((run, index) => index > 0 && (all[index - 1]?.last ?? 0) > run.first);
  expect(overlapping).toEqual([]);
}

const ended = async () => (await runs()).filter((run) => run.ended);

describe.skipIf(lacks('redis-server'))('three replicas with a real Redis', () => {
  it('do a job by one of them at a time, and once for each slot', async () => {
    await startAll(3, '1s', 5, 20);
    await until(async () => (await ended()).length >= 8, inTime());
    const all = await runs();
    expectDisjoint(all);
    const slots = all.map(({ slot }) => slot);
    expect(slots.every((slot) => slot % 1_000 === 0)).toBe(true);
    expect(slots).toEqual([...new Set(slots)].sort((a, b) => a - b));
    const notEarly = all.filter(({ slot, began }) => began >= slot);
    expect(notEarly).toHaveLength(all.length);
  });

  it('lose no step where the one that does it is killed, and count it once', async () => {
    await startAll(3, '4s', 60, 50);
    await until(
      async () => (await lines()).some(({ what, value }) => what === 'step' && value === '30'),
      inTime(),
    );
    const [first] = await runs();
    processes.find(({ pid }) => pid === first?.pid)?.kill('SIGKILL');
    await until(async () => (await ended()).some(({ slot }) => slot === first?.slot), inTime());
    const ofSlot = (await runs()).filter(({ slot }) => slot === first?.slot);
    expect(ofSlot.map((run) => run.ended)).toEqual([false, true]);
    expect(ofSlot[1]?.pid).not.toBe(first?.pid);
    expectDisjoint(await runs());
    const [from = 0, to = 0] = [ofSlot[0]?.first, ofSlot[1]?.last];
    const steps = (await lines()).slice(from, to).filter(({ what }) => what === 'step');
    expect(new Set(steps.map(({ value }) => Number(value)))).toEqual(
      new Set(Array.from({ length: 60 }, (_, n) => n)),
    );
    // It did not begin anew.
    expect(steps.filter(({ value }) => value === '0')).toHaveLength(1);
  });

  it('hand it over where one of them stops', async () => {
    await startAll(2, '4s', 60, 50);
    await until(
      async () => (await lines()).some(({ what, value }) => what === 'step' && value === '10'),
      inTime(),
    );
    const [first] = await runs();
    await processes.find(({ pid }) => pid === first?.pid)?.stop();
    await until(async () => (await ended()).some(({ slot }) => slot === first?.slot), inTime());
    const ofSlot = (await runs()).filter(({ slot }) => slot === first?.slot);
    expect(ofSlot.map((run) => run.ended)).toEqual([false, true]);
    const [from = 0, to = 0] = [ofSlot[0]?.first, ofSlot[1]?.last];
    const steps = (await lines()).slice(from, to).filter(({ what }) => what === 'step');
    expect(steps.map(({ value }) => Number(value))).toEqual(Array.from({ length: 60 }, (_, n) => n));
  });

  it('delete nothing while Redis is away, or was empty less than a grace ago, and begin no job without it', async () => {
    await startAll(2, '1s', 100, 50);
    const may = async (since: number, value: boolean) =>
      (await lines()).find(
        ({ at, what, value: said }) => what === 'may' && at > since && said === `${value}`,
      );
    await until(async () => (await may(0, true)) !== undefined, inTime());
    const flushed = Date.now();
    await redis.client().flushall();
    await until(async () => (await may(flushed, false)) !== undefined, inTime());
    const refused = (await may(flushed, false))?.at ?? 0;
    await until(async () => (await may(refused, true)) !== undefined, inTime());
    expect((await may(refused, true))?.at).toBeGreaterThanOrEqual(flushed + graceMs);

    await redis.kill();
    const killed = Date.now();
    await until(async () => (await may(killed, false)) !== undefined, inTime());
    const without = (await may(killed, false))?.at ?? 0;
    await until(async () => processes.some((each) => each.log().includes('jobs wait for redis')), inTime());
    const begun = (await runs()).length;
    // It takes several slots. (What FLUSHALL made another replica take over has no end.)
    await until(async () => (await runs()).at(-1)?.ended === true, inTime());
    expect((await runs()).length).toBe(begun);
    expect(await may(without, true)).toBeUndefined();
    await redis.start();
    await until(async () => (await runs()).length > begun, inTime());
    const back = Date.now();
    await until(async () => (await may(back, true)) !== undefined, inTime());
    expectDisjoint(await runs());
  });
});
