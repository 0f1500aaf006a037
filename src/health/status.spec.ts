import { describe, expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import { StorageError } from '../storage/storage.js';
import { Metrics } from '../telemetry/metrics.js';
import { statusPage } from './status-page.js';
import { StatusReport, type StatusParts } from './status.js';

const digest = digestOf(Buffer.from('a blob'));

function report(changes: Partial<StatusParts> = {}): StatusReport {
  const metrics = new Metrics();
  metrics.storedLimit.set(Infinity);
  metrics.storedBlobs.set(3);
  metrics.storedBytes.set(1_500_000);
  metrics.spoolLimit.set(1000);
  metrics.redisUsable.set({ connection: 'data' }, 0);
  return new StatusReport({
    health: { failing: () => ({}), notReady: () => undefined },
    metrics,
    upstreams: [
      {
        host: 'docker.io',
        budget: { limit: 100, remaining: 7, windowSeconds: 21_600, freshnessFactor: 10 },
        breakerState: () => 'closed',
      },
      { host: 'ghcr.io', budget: undefined, breakerState: () => 'open' },
    ],
    transfers: { running: () => [{ digest, length: 10, size: undefined }] },
    cluster: { peers: undefined },
    scheduler: {
      jobs: () =>
        Promise.resolve([{ name: 'evict', schedule: { kind: 'never' }, nextMs: 0, run: undefined }]),
    },
    driver: 'filesystem',
    ...changes,
  });
}

describe('the status of a replica', () => {
  it('tells of upstreams, transfers, storage and jobs, and leaves out what is not known', async () => {
    expect(await report().read()).toMatchObject({
      ready: true,
      failing: {},
      upstreams: [
        { host: 'docker.io', breaker: 'closed', pullsLeft: 7, pullLimit: 100 },
        { host: 'ghcr.io', breaker: 'open' },
      ],
      transfers: [{ digest, bytes: 10 }],
      spool: { bytes: 0, limit: 1000 },
      storage: { driver: 'filesystem', blobs: 3, bytes: 1_500_000 },
      jobs: [{ name: 'evict', next: '1970-01-01T00:00:00.000Z' }],
    });
    expect(await report().read()).not.toHaveProperty('cluster');
  });

  it('tells the rest while the storage, which knows of jobs, is away', async () => {
    const away = { jobs: () => Promise.reject(new StorageError('io', 'no disk')) };
    expect(await report({ scheduler: away }).read()).toMatchObject({
      jobs: 'unknown: the storage does not answer',
      storage: { blobs: 3 },
    });
  });

  it('is a page too, in which nothing that others say becomes a part of it', async () => {
    const failing = { file: '<script>alert(1)</script>' };
    const page = statusPage(
      await report({ health: { failing: () => failing, notReady: () => failing } }).read(),
    );
    expect(page).toContain('7 of 100');
    expect(page).toContain('filesystem: 3 blobs, 1.5 MB');
    expect(page).toContain('&#60;script&#62;alert(1)&#60;/script&#62;');
    expect(page).not.toContain('<script');
  });
});
