import { Agent, get } from 'node:http';
import { finished } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';

const everyMs = 5;

/** In milliseconds. */
export interface Latency {
  readonly worst: number;
  readonly p99: number;
}

/** Asks the same of a server again and again, one after the other, until it is told to stop. */
export async function latencyDuring(url: string, work: Promise<unknown>): Promise<Latency> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const took: number[] = [];
  const over = new AbortController();
  const stop = (): void => over.abort();
  work.then(stop, stop);
  try {
    do {
      const began = performance.now();
      await ask(url, agent);
      took.push(performance.now() - began);
      await delay(everyMs);
    } while (!over.signal.aborted);
  } finally {
    agent.destroy();
  }
  took.sort((a, b) => a - b);
  return { worst: took.at(-1) ?? 0, p99: took[Math.floor(took.length * 0.99)] ?? 0 };
}

async function ask(url: string, agent: Agent): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  get(url, { agent }, (response) => finished(response.resume()).then(resolve, reject)).once('error', reject);
  await promise;
}
