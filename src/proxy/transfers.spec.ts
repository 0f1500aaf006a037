import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Cluster } from '../cluster/cluster.js';
import { digestOf } from '../oci/digest.js';
import { StorageError } from '../storage/storage.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Source } from './filler.js';
import type { Shelf } from './local-filler.js';
import { StoreTrouble } from './store-trouble.js';
import { Transfers } from './transfers.js';

const log = pino({ level: 'silent' });
const digest = digestOf(Buffer.from('content'));
const source = { upstream: { host: 'example.com' }, repository: 'o/app', stored: 'o/app' } as Source;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-transfers-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** Files in the folder that this process has open. */
async function openFiles(): Promise<string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(
    descriptors.map((each) => readlink(`/proc/self/fd/${each}`).catch(() => '')),
  );
  return targets.filter((target) => target.startsWith(folder));
}

describe('a transfer that cannot begin', () => {
  it('leaves no file and no descriptor when the free space is unknown', async () => {
    const metrics = new Metrics();
    const failure = new StorageError('io', 'statfs failed: EIO');
    const transfers = new Transfers({
      shelf: { blobs: { stat: () => Promise.resolve(undefined) } } as unknown as Shelf,
      cluster: {} as Cluster,
      newSpoolFile: () => Promise.resolve(join(folder, 'spool')),
      freeSpoolBytes: () => Promise.reject(failure),
      maxSpoolBytes: 1_000_000,
      maxTransfers: 10,
      maxBlobBytes: 1_000_000,
      trouble: new StoreTrouble(log, metrics, () => Promise.resolve()),
      log,
      metrics,
      tracing: undefined,
    });
    await expect(transfers.start(digest, source)).rejects.toBe(failure);
    expect(await openFiles()).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
    expect(transfers.get(digest)).toBeUndefined();
  });
});
