import { describe, expect, it } from 'vitest';
import { LocalCluster } from '../cluster/local/cluster.js';
import { NoRoom } from '../memory/byte-budget.js';
import { digestOf } from '../oci/digest.js';
import { ociManifest } from '../oci/manifest.js';
import { parseRepository, parseTag } from '../oci/name.js';
import type { RepositoryStore } from '../storage/storage.js';
import { createLogger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Upstream } from '../upstream/upstream.js';
import type { Manifests } from './manifests.js';
import { StoreTrouble } from './store-trouble.js';
import { Tags } from './tags.js';

const name = parseRepository('team/app');
const tag = parseTag('v1');
if (name === undefined || tag === undefined) throw new Error('no repository, or no tag');
const log = createLogger({ level: 'error', formatter: 'json', fields: {} });
const patient = new AbortController().signal;

describe('a tag that has moved', () => {
  it('keeps its old digest while there is no room in memory for the new manifest', async () => {
    const metrics = new Metrics();
    let text = 'old';
    const upstream = {
      host: 'registry.test',
      budget: undefined,
      headManifest: () =>
        Promise.resolve({ digest: digestOf(Buffer.from(text)), size: text.length, mediaType: ociManifest }),
    } as unknown as Upstream;
    const manifests = {
      whenStored: () => undefined,
      get: () => Promise.reject(new NoRoom(4)),
    } as unknown as Manifests;
    const repositories = {
      readTag: () => Promise.resolve(undefined),
      hasManifest: () => Promise.resolve(true),
      writeTag: () => Promise.resolve(),
    } as unknown as RepositoryStore;
    const trouble = new StoreTrouble(log, metrics, () => Promise.resolve());
    const tags = new Tags(
      repositories,
      manifests,
      0,
      trouble,
      log,
      metrics,
      new LocalCluster(60_000),
      60_000,
    );
    const route = { upstream, host: upstream.host, name, stored: name };
    const old = await tags.resolve(route, tag, patient);
    text = 'new';
    expect(await tags.resolve(route, tag, patient)).toMatchObject({
      descriptor: { digest: old?.descriptor.digest },
      outcome: 'stale',
      warning: 'registry.test cannot be asked (no-room); this is what the mirror has',
    });
  });
});
