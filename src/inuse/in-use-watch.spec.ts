import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryLeases } from '../../test/fakes/memory-leases.js';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { digestOf } from '../oci/digest.js';
import { JobLeases } from '../scheduler/leases.js';
import { Metrics } from '../telemetry/metrics.js';
import { InUseRecords } from '../usage/in-use.js';
import type { ImageSource, Observer } from './image-source.js';
import { InUseWatch } from './in-use-watch.js';
import { Newcomers } from './newcomers.js';

const one = 'team/one:1';
const two = 'ghcr.io/team/two:2';

/** A source that says what the test has it say, to each replica that looks. */
class Source implements ImageSource {
  readonly kind = 'kubernetes';
  readonly observers = new Set<Observer>();
  readonly identify = (): Promise<string> => Promise.resolve('cluster');
  readonly platforms = (): Promise<readonly string[]> => Promise.resolve(['linux/arm64']);

  observe(_id: string, observer: Observer, signal: AbortSignal): Promise<void> {
    this.observers.add(observer);
    return new Promise((resolve) =>
      signal.addEventListener('abort', () => {
        this.observers.delete(observer);
        resolve();
      }),
    );
  }

  say(images: readonly string[], whole = true): void {
    for (const { seen, heard } of this.observers) {
      seen(new Map(images.map((image) => [image, true])), whole);
      heard();
    }
  }

  sayNothingNew(): void {
    for (const { heard } of this.observers) heard();
  }
}

let source: Source;
let store: MemoryRecords;
let leases: MemoryLeases;
let records: InUseRecords;
let warnings: string[];
const warm = vi.fn();
const ends = new Set<() => Promise<void>>();

beforeEach(() => {
  vi.useFakeTimers();
  source = new Source();
  store = new MemoryRecords();
  leases = new MemoryLeases();
  records = new InUseRecords(store, ['kubernetes'], 3_600_000, pino({ level: 'silent' }));
  warnings = [];
  warm.mockReset();
  warm.mockResolvedValue({ digest: digestOf(Buffer.from('x')), manifests: 1, blobs: 1, bytes: 1 });
});
afterEach(async () => {
  for (const end of ends) await end();
  vi.useRealTimers();
});

/** One more replica; returns what stops it. */
async function replica(): Promise<() => Promise<void>> {
  const stopping = new AbortController();
  const log = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(line) });
  const directory = { placeOf: (stored: string) => ({ host: 'docker.io', name: stored }) };
  const watch = new InUseWatch({
    source,
    records,
    leases: new JobLeases({ coordinator: leases.coordinator() }),
    shared: true,
    newcomers: new Newcomers({ warmer: { warm }, directory, log }),
    log,
    metrics: new Metrics(),
  });
  const done = watch.run(stopping.signal);
  const end = async (): Promise<void> => {
    ends.delete(end);
    stopping.abort();
    await done;
  };
  ends.add(end);
  await pass(0);
  return end;
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const kept = async (): Promise<string[] | undefined> => {
  const images = await records.read('kubernetes', 'cluster');
  return images && [...images].toSorted();
};

describe('what a source says that runs', () => {
  it('is kept, with each change', async () => {
    await replica();
    expect(await kept()).toBeUndefined();
    for (const images of [[one], [two, one], [two], []]) {
      source.say(images);
      await pass(2_000);
      expect(await kept()).toEqual(images);
    }
  });

  it('is looked at by one replica, and by the next one when that stops', async () => {
    const end = await replica();
    await replica();
    await pass(5_000);
    expect(source.observers.size).toBe(1);
    source.say([one]);
    await pass(2_000);
    await end();
    expect(source.observers.size).toBe(0);
    await pass(2_000);
    expect(source.observers.size).toBe(1);
    source.say([two]);
    await pass(2_000);
    expect(await kept()).toEqual([two]);
  });

  it('is looked at by each replica while Redis is away, and by one when it is back', async () => {
    leases.away = true;
    await replica();
    await replica();
    expect(source.observers.size).toBe(0);
    await pass(11_000);
    expect(source.observers.size).toBe(2);
    source.say([one]);
    await pass(2_000);
    expect(await kept()).toEqual([one]);
    leases.away = false;
    await pass(6 * 60_000);
    expect(source.observers.size).toBe(1);
  });

  it('is not taken for all while some of it is still to be asked for', async () => {
    await replica();
    source.say([one], false);
    await pass(10_000);
    expect(await kept()).toBeUndefined();
    await records.write('kubernetes', 'cluster', Date.now(), [two]);
    for (const end of ends) await end();
    await replica();
    source.say([one], false);
    await pass(2_000);
    expect(await kept()).toEqual([two, one]);
    source.say([one], true);
    await pass(2_000);
    expect(await kept()).toEqual([one]);
  });

  it('is written down when the storage takes it again, which is said once', async () => {
    await replica();
    store.full = true;
    source.say([one]);
    await pass(20_000);
    expect(await kept()).toBeUndefined();
    store.full = false;
    await pass(2_000);
    expect(await kept()).toEqual([one]);
    expect(warnings).toHaveLength(1);
  });

  it('counts as seen for as long as the source is heard', async () => {
    await replica();
    source.say([one]);
    await pass(2_000);
    const seen = (): number => Number(/^seen (\d+)/.exec(store.text('inuse/kubernetes/cluster') ?? '')?.[1]);
    const first = seen();
    await pass(20 * 60_000);
    expect(seen()).toBe(first);
    source.sayNothingNew();
    await pass(2_000);
    expect(seen()).toBeGreaterThan(first + 19 * 60);
  });

  it('is fetched ahead where it is new, and where nobody has looked before it is not', async () => {
    await replica();
    source.say([one]);
    await pass(5_000);
    expect(warm).not.toHaveBeenCalled();
    source.say([one, two]);
    await pass(5_000);
    const wanted = { image: `docker.io/${two}`, platforms: ['linux/arm64'] };
    expect(warm.mock.calls.map(([image]) => image as unknown)).toEqual([wanted]);
    for (const end of ends) await end();
    await replica();
    source.say([one, two]);
    await pass(5_000);
    expect(warm).toHaveBeenCalledTimes(1);
  });
});
