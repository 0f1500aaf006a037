import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive } from '../fakes/slow-client.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric } from '../parts/mirror.js';

const attempts = 8;

describe('an upstream that fails for one repository', () => {
  let upstream: FakeUpstream;
  let cistern: Cistern;
  beforeAll(async () => {
    upstream = await FakeUpstream.start();
    cistern = await startCistern({ config: { proxy: { remoteurl: upstream.url } } });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });

  it('is still asked about other repositories, and soon not about that one', async () => {
    const image = imageOf({ layers: [randomLayer(100, 'sound')] });
    const blob = blobOf(1_000, 'sound');
    for (let n = 0; n < 3; n += 1) upstream.addImage(`sound/app${n}`, 'v1', image);
    upstream.addBlob('sound/app0', blob);
    upstream.fault({ path: /^\/v2\/strange\// }, { answer: { status: 500, body: 'oops' } });
    for (let n = 0; n < attempts; n += 1) {
      const { status } = await receive(`${cistern.url}/v2/strange/app/manifests/v${n}`);
      expect(status).toBeGreaterThanOrEqual(500);
    }
    for (let n = 0; n < 3; n += 1) {
      expect((await receive(`${cistern.url}/v2/sound/app${n}/manifests/v1`)).status).toBe(200);
    }
    expect((await receive(`${cistern.url}/v2/sound/app0/blobs/${blob.digest}`)).status).toBe(200);
    expect(await metric(cistern, 'cistern_upstream_breaker_open', { upstream: 'docker.io' })).toBe(0);
    const asked = upstream.asked({ path: /^\/v2\/strange\// }).length;
    expect((await receive(`${cistern.url}/v2/strange/app/manifests/last`)).status).toBe(503);
    expect(upstream.asked({ path: /^\/v2\/strange\// })).toHaveLength(asked);
  });
});
