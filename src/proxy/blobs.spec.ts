import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { LocalDescriptorCache } from '../cluster/local/caches.js';
import type { Cluster } from '../cluster/cluster.js';
import { digestOf } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { BlobStore, Presigned, RepositoryStore } from '../storage/storage.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { Blobs } from './blobs.js';
import { ExpectedSizes } from './expected-sizes.js';
import { StoreTrouble } from './store-trouble.js';
import type { Transfers } from './transfers.js';

const digest = digestOf(Buffer.from('content'));
const key = `team/app@${digest}`;
const { signal } = new AbortController();
const log = pino({ level: 'silent' });
const route = {
  host: 'example.com',
  name: 'team/app',
  stored: 'team/app',
  upstream: { host: 'example.com', headBlob: () => Promise.resolve(7) },
} as unknown as Route;

/** Content that another repository brought, and that goes away when it is linked, where the test says so. */
let stored: boolean;
let linked: boolean;
/** How often the store was asked for the content itself; it has none. */
let opened: number;
/** The repository whose transfer of it runs. */
let running: string | undefined;
let goes: boolean;
let descriptors: LocalDescriptorCache;
let blobs: Blobs;
let sizes: ExpectedSizes;
const presigned: Presigned = { url: 'https://bucket/content', size: 7 };

beforeEach(() => {
  stored = true;
  linked = false;
  goes = true;
  opened = 0;
  running = undefined;
  descriptors = new LocalDescriptorCache(60_000);
  const metrics = new Metrics();
  sizes = new ExpectedSizes(log, metrics);
  const store = {
    stat: () => Promise.resolve(stored ? 7 : undefined),
    renew: () => {
      stored = !goes;
      return Promise.resolve(stored ? 7 : undefined);
    },
    open: () => {
      opened += 1;
      return Promise.resolve(undefined);
    },
  } as unknown as BlobStore;
  const reader = {
    transfer: { size: 7, readable: 0 },
    opened: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const transfer = {
    hasSource: (repository: string) => repository === running,
    addSource: () => true,
    sizeOnceOpen: () => Promise.resolve(7),
    join: () => reader,
  };
  const repositories = {
    hasLayer: () => Promise.resolve(linked),
    linkLayer: () => {
      linked = true;
      return Promise.resolve();
    },
  } as unknown as RepositoryStore;
  const presigning = {
    lifetimeMs: 60_000,
    presign: () => Promise.resolve(presigned),
    recallPresigned: () => presigned,
  };
  blobs = new Blobs(
    store,
    repositories,
    {
      get: () => (running === undefined ? undefined : Promise.resolve(transfer)),
      start: () => Promise.resolve(transfer),
    } as unknown as Transfers,
    new StoreTrouble(log, metrics, () => Promise.resolve()),
    log,
    metrics,
    { descriptors } as unknown as Cluster,
    presigning,
    sizes,
  );
});

describe('content that is deleted while it is linked', () => {
  it('is not remembered as stored', async () => {
    expect(await blobs.head(route, digest, signal)).toEqual({ size: 7, outcome: 'revalidated' });
    expect(await descriptors.get(key)).toBeUndefined();
  });

  it('is nowhere that a client could be sent to', async () => {
    expect(await blobs.locate(route, digest)).toBeUndefined();
    await blobs.head(route, digest, signal);
    expect(await blobs.locate(route, digest)).toBeUndefined();
    expect(await descriptors.get(key)).toBeUndefined();
  });

  it('is remembered where it was not, and clients are sent to it once it is linked', async () => {
    goes = false;
    expect(await blobs.locate(route, digest)).toBeUndefined();
    await blobs.head(route, digest, signal);
    expect((await descriptors.get(key))?.size).toBe(7);
    expect(await blobs.locate(route, digest)).toEqual({ url: 'https://bucket/content', outcome: 'hit' });
  });
});

describe('content that nobody has', () => {
  const open = () => blobs.open(route, digest, undefined, signal);

  it('is asked of the store before a transfer starts, and what was known of it is forgotten', async () => {
    descriptors.put(key, { digest, size: 7, mediaType: 'application/octet-stream' });
    expect(await open()).toMatchObject({ size: 7, outcome: 'miss' });
    expect(opened).toBe(1);
    expect(await descriptors.get(key)).toBeUndefined();
  });

  it('is not asked of the store while it comes for the same repository', async () => {
    running = route.stored;
    expect(await open()).toMatchObject({ size: 7, outcome: 'miss' });
    expect(opened).toBe(0);
  });

  it('is asked of the store while it comes for another repository', async () => {
    running = 'team/other';
    expect(await open()).toMatchObject({ size: 7, outcome: 'miss' });
    expect(opened).toBe(1);
  });
});

describe('where a client fetches a blob by itself', () => {
  const location = { url: presigned.url, outcome: 'hit' };

  it('is recalled while its descriptor is', () => {
    expect(blobs.recallLocation(route, digest)).toBeUndefined();
    descriptors.put(key, { digest, size: 7, mediaType: 'a/b' });
    expect(blobs.recallLocation(route, digest)).toEqual(location);
    descriptors.drop(key);
    expect(blobs.recallLocation(route, digest)).toBeUndefined();
  });

  it('is recalled for repositories alone that have the blob', () => {
    descriptors.put(key, { digest, size: 7, mediaType: 'a/b' });
    const stored = 'another/repository' as Repository;
    expect(blobs.recallLocation({ ...route, stored }, digest)).toBeUndefined();
  });

  it('is not recalled where the object is not what was stored', () => {
    descriptors.put(key, { digest, size: 7, mediaType: 'a/b' });
    sizes.verified(key, 8);
    expect(blobs.recallLocation(route, digest)).toBeUndefined();
  });
});
