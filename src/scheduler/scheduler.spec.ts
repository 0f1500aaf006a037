import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { JobReplica, Ledger } from '../../test/fakes/job-replica.js';
import { MemoryLeases } from '../../test/fakes/memory-leases.js';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { LocalCoordinator } from '../cluster/local/coordinator.js';
import type { Schedule } from '../config/schedule.js';
import { JobBusy, LeaseLost, Stopping } from './faults.js';
import type { Job, JobName } from './job.js';

const second = 1_000;
const minute = 60 * second;
const every = (ms: number): Schedule => ({ kind: 'every', ms });
const start = Date.parse('2026-11-21T12:03:00Z');

let records: MemoryRecords;
let leases: MemoryLeases;
let ledger: Ledger;
let replicas: JobReplica[];

beforeEach(() => {
  vi.useFakeTimers({ now: start });
  records = new MemoryRecords();
  leases = new MemoryLeases();
  ledger = new Ledger();
  replicas = [];
});
afterEach(async () => {
  const stopped = Promise.all(replicas.filter(({ dead }) => !dead).map((replica) => replica.stop()));
  await vi.advanceTimersByTimeAsync(10 * second);
  await stopped;
  vi.useRealTimers();
});

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

interface ReplicaOptions {
  readonly shared?: boolean;
  readonly schedules?: Partial<Record<JobName, Schedule>>;
  readonly latencyMs?: () => number;
}

function replica(runner: string, options: ReplicaOptions = {}): JobReplica {
  const { shared = true, schedules = { sweep: every(10 * minute) }, latencyMs } = options;
  const coordinator = (lives: () => boolean) => (shared ? leases.coordinator(lives) : new LocalCoordinator());
  const made = new JobReplica({
    runner,
    records,
    coordinator,
    shared,
    schedules,
    ...(latencyMs === undefined ? {} : { latencyMs }),
  });
  replicas.push(made);
  return made;
}

/** A replica that does a job of five steps, a second each. */
function stepping(runner: string, options: ReplicaOptions = {}, name: JobName = 'sweep'): JobReplica {
  const made = replica(runner, options);
  return made.does(ledger.job(name, () => made, runner, 5, second));
}

async function stateOf(on: JobReplica | undefined) {
  const [state] = (await on?.scheduler.jobs()) ?? [];
  return state;
}

const steps = () => ledger.steps.map(({ step }) => step);

describe.each([
  ['three replicas with Redis', true],
  ['three replicas that share a folder alone', false],
])('%s', (_, shared) => {
  const three = () => ['a', 'b', 'c'].map((name) => stepping(name, { shared }));

  it('do a job once for each of its slots, and show it alike', async () => {
    const all = three();
    await pass(6 * 60 * minute);
    expect(ledger.count('end')).toBe(36);
    expect(ledger.most).toBe(1);
    const counted = await Promise.all(all.map((each) => each.runs('sweep', 'done')));
    expect(counted.reduce((sum, count) => sum + count)).toBe(36);
    for (const each of all) {
      expect(await stateOf(each)).toMatchObject({
        nextMs: start + 6 * 60 * minute + 7 * minute,
        run: { outcome: 'done', summary: { steps: 5 }, slotMs: start + 6 * 60 * minute - 3 * minute },
      });
      const { values } = await each.metrics.jobDuration.get();
      expect(values).toEqual([{ labels: { name: 'sweep' }, value: 5 }]);
    }
    expect(leases.held()).toEqual([]);
    expect([...records.records.keys()]).toEqual(['jobs/sweep']);
  });

  it('do it once although they look at the same moment, and it is done before the last of them has looked', async () => {
    for (const name of ['a', 'b', 'c']) {
      // Another one for each look, now and then a long one: all that they do falls between what others do.
      let looks = name.charCodeAt(0);
      const latencyMs = () => ((looks += 1) % 23 === 0 ? 1_000 : (looks * 13) % 29);
      const made = replica(name, { shared, latencyMs });
      made.does(ledger.job('sweep', () => made, name, 0, 0));
    }
    await pass(24 * 60 * minute);
    expect(ledger.count('end')).toBe(144);
    expect(ledger.most).toBe(1);
  });

  it('go on where one of them has died, and count it once', async () => {
    const all = three();
    await pass(7 * minute + 3.5 * second);
    const died = all.find(({ runner }) => runner === ledger.events[0]?.runner);
    died?.die();
    for (const key of leases.held()) leases.lapse(key);
    await pass(shared ? 15 * second : minute);
    expect(new Set(steps())).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(steps().length).toBeLessThan(7);
    const left = all.filter((each) => each !== died);
    const counted = await Promise.all(left.map((each) => each.runs('sweep', 'done')));
    expect(counted.reduce((sum, count) => sum + count)).toBe(1);
    expect(await stateOf(left[0])).toMatchObject({
      run: { outcome: 'done', attempt: 1, beganMs: start + 7 * minute, slotMs: start + 7 * minute },
    });
  });

  it('go on where one of them stops', async () => {
    const all = three();
    await pass(7 * minute + 2.5 * second);
    const first = all.find(({ runner }) => runner === ledger.events[0]?.runner);
    await Promise.all([first?.stop(), pass(second)]);
    expect(await first?.runs('sweep', 'stopped')).toBe(1);
    expect(first?.said()).toContain('job stopped');
    await pass(15 * second);
    expect(steps()).toEqual([0, 1, 2, 3, 4]);
    expect(ledger.events.at(-1)?.runner).not.toBe(first?.runner);
    expect(await stateOf(first)).toMatchObject({ run: { outcome: 'done' } });
  });
});

describe('a replica', () => {
  it('begins a job that nobody has seen before at its next slot, and catches up with one that nobody did', async () => {
    const first = stepping('a', { schedules: { sweep: every(24 * 60 * minute) } });
    await pass(11 * 60 * minute);
    expect(ledger.count('begin')).toBe(0);
    await Promise.all([first.stop(), pass(second)]);
    vi.setSystemTime(start + 72 * 60 * minute);
    stepping('b', { schedules: { sweep: every(24 * 60 * minute) } });
    await pass(minute);
    expect(ledger.count('end')).toBe(1);
  });

  it('shows how far it is', async () => {
    const only = stepping('a');
    await pass(7 * minute + 2.5 * second);
    expect(await stateOf(only)).toMatchObject({
      run: { outcome: 'running', runner: 'a', progress: { doing: 'steps', done: 2, total: 5 } },
    });
    const text = await only.metrics.registry.metrics();
    expect(text).toContain('cistern_job_running{name="sweep"} 1');
    expect(text).toContain(
      `cistern_job_next_run_timestamp_seconds{name="sweep"} ${(start + 17 * minute) / 1000}`,
    );
  });

  it('gives way to another that has taken its lease, and writes nothing any more', async () => {
    const slept = stepping('a');
    await pass(7 * minute + 2.5 * second);
    leases.lapse('job:sweep');
    const other = await leases.coordinator().tryLead('job:sweep');
    await pass(second);
    expect(ledger.events.at(-1)).toMatchObject({ runner: 'a', what: 'end' });
    const left = records.text('jobs/sweep');
    await pass(30 * second);
    expect(records.text('jobs/sweep')).toBe(left);
    expect(await slept.runs('sweep', 'stopped')).toBe(1);
    await other?.release(false);
    await pass(15 * second);
    expect(await slept.runs('sweep', 'done')).toBe(1);
    expect(new Set(steps())).toEqual(new Set([0, 1, 2, 3, 4]));
  });

  it('says why a job failed, and tries it again at the next slot', async () => {
    let tries = 0;
    const failing: Job = {
      name: 'sweep',
      run: () => (++tries > 1 ? Promise.resolve({}) : Promise.reject(new TypeError('broken'))),
    };
    const only = replica('a').does(failing);
    await pass(16 * minute);
    expect(tries).toBe(1);
    expect(await stateOf(only)).toMatchObject({ run: { outcome: 'failed', error: 'TypeError: broken' } });
    expect(only.said()).toContain('job failed');
    await pass(2 * minute);
    expect(await stateOf(only)).toMatchObject({ run: { outcome: 'done' } });
    expect(await only.runs('sweep', 'failed')).toBe(1);
  });

  it('shows the problems of a job that another replica ran, and logs the first ten', async () => {
    const skipping: Job = {
      name: 'sweep',
      run: (run) => {
        for (let n = 0; n < 12; n += 1) run.problem({ subject: `part ${n}`, message: 'no access' });
        return Promise.resolve({});
      },
    };
    const all = ['a', 'b'].map((name) => replica(name).does(skipping));
    await pass(12 * minute);
    for (const each of all) {
      const { run } = (await stateOf(each)) ?? {};
      expect(run).toMatchObject({ outcome: 'done', problems: { count: 12 } });
      expect(run?.problems?.first.map(({ subject }) => subject)).toHaveLength(10);
      const { values } = await each.metrics.jobProblems.get();
      expect(values).toEqual([{ labels: { name: 'sweep' }, value: 12 }]);
    }
    const logged = all.flatMap((each) => each.warned());
    expect(logged.filter((line) => line === 'a job met a problem and continues')).toHaveLength(10);
  });

  it('waits for a Redis that is away, and says so once; who warns of the outage itself is another', async () => {
    leases.away = true;
    const schedules = { sweep: every(10 * minute), scrub: every(10 * minute) };
    const only = replica('a', { schedules });
    only.does(...(['sweep', 'scrub'] as const).map((name) => ledger.job(name, () => only, 'a', 5, second)));
    await pass(30 * minute);
    expect(ledger.count('begin')).toBe(0);
    expect(only.said()).toEqual(['jobs wait for redis']);
    expect(only.warned()).toEqual([]);
    leases.away = false;
    await pass(minute);
    expect(ledger.count('end')).toBe(2);
  });

  it('goes on when its storage does', async () => {
    const only = stepping('a');
    await pass(minute);
    records.full = true;
    await pass(7 * minute);
    expect(only.said()).toContain('a job cannot be looked after');
    expect(ledger.count('begin')).toBe(0);
    records.full = false;
    await pass(minute);
    expect(await only.runs('sweep', 'done')).toBe(1);
  });

  it('is not kept from working by the record of a clock that was wrong', async () => {
    const run = { slotMs: start + 1e10, outcome: 'done' };
    records.records.set('jobs/sweep', Buffer.from(JSON.stringify({ slotMs: start + 1e10, run })));
    stepping('a');
    await pass(minute);
    expect(ledger.count('end')).toBe(1);
  });

  it.each([
    '',
    '{}',
    'null',
    '[1]',
    '{"slotMs":"1"}',
    '{"slotMs":1,"run":{"outcome":"done","beganMs":1e300,"endedMs":"x"}}',
    '{"slotMs":1,"run":{"runner":"a","attempt":0,"beganMs":1,"beatMs":1,"outcome":"done","problems":7}}',
  ])('runs its jobs despite a malformed record such as %j', async (text) => {
    records.records.set('jobs/sweep', Buffer.from(text));
    const only = stepping('a');
    await pass(10 * minute);
    expect(await only.runs('sweep', 'done')).toBeGreaterThan(0);
  });
});

describe('jobs of the content', () => {
  it('wait for each other; the others do not', async () => {
    const names = ['expire', 'evict', 'reindex', 'sweep'] as const;
    const schedules = Object.fromEntries(
      [...names, 'scrub', 'prewarm'].map((name) => [name, every(10 * minute)]),
    );
    const all = ['a', 'b'].map((runner) => {
      const made = replica(runner, { schedules });
      return made.does(...names.map((name) => ledger.job(name, () => made, runner, 5, second)));
    });
    await pass(8 * minute);
    expect(ledger.count('end')).toBe(4);
    expect(ledger.most).toBe(1);
    const besides = new Ledger();
    const [one] = all;
    if (one === undefined) throw new Error('no replica');
    const signal = new AbortController().signal;
    const job = (name: JobName) => besides.job(name, () => one, 'a', 5, second);
    const runs = [
      one.scheduler.runNow('sweep', { job: job('sweep'), signal }),
      one.scheduler.runNow('scrub', { job: job('scrub'), signal }),
    ];
    await pass(2.5 * second);
    expect(besides.most).toBe(2);
    await Promise.all([...runs, pass(10 * second)]);
  });

  it.each([1, 2])('take turns when each takes longer than its interval, on %d replicas', async (count) => {
    const names = ['evict', 'sweep', 'expire', 'reindex'] as const;
    const schedules = Object.fromEntries(names.map((name) => [name, every(2 * second)]));
    for (const runner of ['a', 'b'].slice(0, count)) {
      const made = replica(runner, { schedules });
      made.does(...names.map((name) => ledger.job(name, () => made, runner, 5, second)));
    }
    await pass(4 * minute);
    expect(ledger.most).toBe(1);
    const begun = names.map((name) => ledger.count('begin', name));
    expect(Math.max(...begun) - Math.min(...begun)).toBeLessThanOrEqual(1);
    expect(Math.min(...begun)).toBeGreaterThanOrEqual(8);
  });

  it('are shown by who never does one, as another replica is always at it', async () => {
    const schedules = { sweep: every(2 * second) };
    const [, ...others] = ['a', 'b', 'c'].map((runner) => stepping(runner, { schedules }));
    await pass(2 * minute);
    const since = Date.now();
    await pass(2 * minute);
    for (const other of others) {
      const { values } = await other.metrics.jobLastRun.get();
      expect(values).toEqual([
        { labels: { name: 'sweep' }, value: expect.toSatisfy((at: number) => at * 1000 > since) as number },
      ]);
    }
  });
});

describe('a job that somebody asks for', () => {
  const { signal } = new AbortController();

  it('is done at once, and shown', async () => {
    const only = replica('a', { schedules: {} });
    only.does(ledger.job('sweep', () => only, 'a', 5, second));
    const progress = vi.fn<() => void>();
    const done = only.scheduler.runNow('sweep', { signal, onProgress: progress });
    await pass(second / 2);
    await pass(9 * second);
    expect(await done).toEqual({ steps: 5 });
    expect(progress).toHaveBeenCalledTimes(5);
    const other = replica('b', { schedules: {} });
    other.scheduler.register(ledger.job('sweep', () => other, 'b', 5, second));
    expect(await stateOf(other)).toMatchObject({
      nextMs: undefined,
      run: { outcome: 'done', summary: { steps: 5 } },
    });
  });

  it('is refused while it is being done, with who does it', async () => {
    const [one, other] = [stepping('a'), stepping('b')];
    await pass(7 * minute + 1.5 * second);
    const runner = ledger.events[0]?.runner ?? '';
    for (const each of [one, other]) {
      await expect(each.scheduler.runNow('sweep', { signal })).rejects.toMatchObject({
        name: 'JobBusy',
        code: 'job-busy',
        runner,
      });
    }
    expect(new JobBusy('sweep', undefined).message).toBe('sweep is being done already');
  });

  it('leaves nothing behind in a dry run', async () => {
    const only = replica('a', { schedules: {} });
    const seen: boolean[] = [];
    const removed = vi.fn<() => void>();
    const removing: Job = {
      name: 'sweep',
      run: async (run) => {
        seen.push(run.dryRun);
        const [what, why, bytes] = ['blob', 'expired', 7] as const;
        run.removed({ what, why, bytes, repository: undefined, reference: 'it' });
        await run.step('1');
        return { blobs: 1 };
      },
    };
    only.scheduler.register(removing);
    const options = { signal, onRemoved: removed };
    expect(await only.scheduler.runNow('sweep', { ...options, dryRun: true })).toEqual({ blobs: 1 });
    expect(records.records.size).toBe(0);
    expect(await only.metrics.registry.metrics()).not.toContain('cistern_removed_total{');
    await only.scheduler.runNow('sweep', options);
    const text = await only.metrics.registry.metrics();
    expect(text).toContain('cistern_removed_total{what="blob",why="expired"} 1');
    expect(text).toContain('cistern_removed_bytes_total{why="expired"} 7');
    expect(seen).toEqual([true, false]);
    expect(removed).toHaveBeenCalledTimes(2);
  });

  it('ends with whoever asked, and with its process', async () => {
    const only = replica('a', { schedules: {} });
    const job = ledger.job('sweep', () => only, 'a', 500, second);
    const leaving = new AbortController();
    const left = only.scheduler.runNow('sweep', { job, signal: leaving.signal });
    const gone = left.catch((error: unknown) => error);
    await pass(1.5 * second);
    leaving.abort(new Error('gone'));
    await pass(second);
    expect(await gone).toEqual(new Error('gone'));
    const stopped = only.scheduler.runNow('sweep', { job, signal }).catch((error: unknown) => error);
    await pass(1.5 * second);
    await Promise.all([only.stop(), pass(second)]);
    expect(await stopped).toBeInstanceOf(Stopping);
    expect(leases.held()).toEqual([]);
  });

  it('is told what the job threw, and that it lost its lease', async () => {
    const only = replica('a', { schedules: {} });
    const broken: Job = { name: 'sweep', run: () => Promise.reject(new RangeError('broken')) };
    await expect(only.scheduler.runNow('sweep', { job: broken, signal })).rejects.toThrow(RangeError);
    const job = ledger.job('sweep', () => only, 'a', 500, second);
    const lost = only.scheduler.runNow('sweep', { job, signal }).catch((error: unknown) => error);
    await pass(1.5 * second);
    leases.lapse('job:content');
    await leases.coordinator().tryLead('job:content');
    await pass(2 * second);
    expect(await lost).toBeInstanceOf(LeaseLost);
  });
});
