import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { CannotMeasure } from './command.js';

/** Of one piece of work; in milliseconds. */
export interface LoopDelay {
  /** The longest time between two turns of the event loop, by the clock: other programs and the disk are part of it. */
  readonly longest: number;
  /** The most processor time that this thread used between two timers, garbage collection included. */
  readonly step: number;
  /** The longest garbage collection. */
  readonly collection: number;
  readonly took: number;
}

const settledMs = 20;
const provenMs = 100;

/** How long the work keeps the event loop from other work. */
export async function loopDelayDuring(work: () => Promise<unknown>): Promise<LoopDelay> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  let collection = 0;
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collection = Math.max(collection, duration);
  });
  await delay(settledMs);
  collections.observe({ entryTypes: ['gc'] });
  histogram.enable();
  await delay(settledMs);
  histogram.reset();
  const steps = new StepMeter();
  const began = performance.now();
  try {
    await work();
    const took = performance.now() - began;
    await delay(settledMs);
    return { longest: histogram.max / 1e6, step: steps.longest, collection, took };
  } finally {
    steps[Symbol.dispose]();
    histogram.disable();
    collections.disconnect();
  }
}

/** Throws where the meter does not see one long step. */
export async function proveMeter(): Promise<void> {
  const { longest, step } = await loopDelayDuring(async () => {
    await delay(settledMs);
    for (const began = usedMs(); usedMs() - began < provenMs;);
  });
  if (longest < provenMs || step < provenMs) {
    const read = `${longest.toFixed(0)} ms and ${step.toFixed(0)} ms`;
    throw new CannotMeasure(`the meter reads ${read} for a step of ${provenMs} ms`);
  }
}

/** The processor time of this thread between two timers that are due each millisecond. */
class StepMeter implements Disposable {
  longest = 0;
  #last = usedMs();
  readonly #timer = setInterval(() => {
    const now = usedMs();
    this.longest = Math.max(this.longest, now - this.#last);
    this.#last = now;
  }, 1);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

function usedMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
