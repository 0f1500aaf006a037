import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { HealthConfig } from '../config/config.js';
import { Health } from './health.js';

const silent = pino({ level: 'silent' });
const config = (threshold: number): HealthConfig => ({
  storagedriver: { enabled: true, interval: 1000, threshold },
  file: [],
  http: [],
  tcp: [],
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('health', () => {
  it('reports a check after as many failures as the threshold says, and its recovery at once', async () => {
    let broken = true;
    const probe = () => (broken ? Promise.reject(new Error('no disk')) : Promise.resolve());
    const health = new Health(config(3), { driver: 'filesystem', probe }, silent);
    health.start();
    await vi.advanceTimersByTimeAsync(1500);
    expect(health.failing()).toEqual({});
    await vi.advanceTimersByTimeAsync(1000);
    expect(health.failing()).toEqual({ storagedriver_filesystem: 'no disk' });
    broken = false;
    await vi.advanceTimersByTimeAsync(1000);
    expect(health.failing()).toEqual({});
    health.stop();
  });

  it('never lets storage decide whether the replica is ready, but draining', async () => {
    const health = new Health(
      config(1),
      { driver: 's3', probe: () => Promise.reject(new Error('no disk')) },
      silent,
    );
    health.start();
    await vi.advanceTimersByTimeAsync(10);
    expect(health.notReady()).toBeUndefined();
    health.drain();
    expect(health.notReady()).toEqual({ draining: 'the server is shutting down' });
    health.stop();
  });

  it('stops checking when it is stopped', async () => {
    const probe = vi.fn(() => Promise.resolve());
    const health = new Health(config(1), { driver: 'filesystem', probe }, silent);
    health.start();
    await vi.advanceTimersByTimeAsync(2500);
    health.stop();
    const calls = probe.mock.calls.length;
    await vi.advanceTimersByTimeAsync(5000);
    expect(probe.mock.calls.length).toBe(calls);
  });
});
