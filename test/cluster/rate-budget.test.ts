import { describe, expect, it } from 'vitest';
import type { FakeUpstream } from '../fakes/fake-upstream.js';
import { PullLimit } from '../fakes/pull-limit.js';
import { lacks } from '../parts/debian.js';
import { type Image, imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError, metric, startMirror } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { startReplicas } from '../parts/replicas.js';
import { patience } from '../parts/patience.js';

const limit = 20;
const tags = 10;
const rounds = 6;
const user = { username: 'me', password: 'secret' };
/** Every request wants to know whether the tag has moved. */
const restless = { freshness: '1ms' };

function version(tag: number, round: number): Image {
  return imageOf({ layers: [randomLayer(100, `tag ${tag} of round ${round}`)] });
}

/** Tags that move on in each round: to keep up would take three times the limit. */
async function overload(
  upstream: FakeUpstream,
  pullLimit: PullLimit,
  mirrors: readonly { readonly url: string }[],
): Promise<void> {
  const right = Array.from({ length: tags }, () => new Set<string>());
  for (let round = 0; round < rounds; round += 1) {
    for (const [tag, versions] of right.entries()) {
      const image = version(tag, round);
      upstream.addImage(`team/tag${tag}`, 'v1', image);
      versions.add(image.manifest.digest);
    }
    const asking = mirrors.flatMap(({ url }) =>
      right.map(async (versions, tag) => {
        const answer = await fetch(`${url}/v2/team/tag${tag}/manifests/v1`);
        expect({ round, tag, status: answer.status }).toEqual({ round, tag, status: 200 });
        expect(versions).toContain(answer.headers.get('docker-content-digest'));
        await answer.arrayBuffer();
        return answer;
      }),
    );
    await Promise.all(asking);
  }
  expect(pullLimit.granted).toBe(limit);
  // At most those that were on their way when the first of them was refused.
  expect(pullLimit.refused.GET).toBeLessThanOrEqual(tags);
}

async function refusesWhatIsNotHere(url: string): Promise<void> {
  const missing = version(0, rounds + 1).manifest.digest;
  for (const reference of ['v2', missing]) {
    const answer = await fetch(`${url}/v2/team/tag0/manifests/${reference}`);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    await expectSpecError(answer, 503, 'UNAVAILABLE');
  }
}

describe('an upstream that counts pulls', () => {
  it('is not overdrawn: what is here is served to the end, and a new window is noticed', async () => {
    const pullLimit = new PullLimit(limit, 10);
    await using mirror = await startMirror({ upstream: { pullLimit }, proxy: restless });
    const { upstream, cistern, url } = mirror;
    await overload(upstream, pullLimit, [cistern]);

    const stale = await fetch(url('team/tag0/manifests/v1'));
    expect(stale.headers.get('warning')).toContain('rate-limited');
    expect(stale.headers.get('x-cistern-upstream-budget')).toBe(`0/${limit}`);
    await stale.arrayBuffer();
    expect(await metric(cistern, 'cistern_upstream_ratelimit_exhausted')).toBe(1);
    expect(await metric(cistern, 'cistern_upstream_freshness_factor')).toBe(10);
    const blob = version(0, 0).layers[0];
    expect((await fetch(url(`team/tag0/blobs/${blob?.digest}`))).status).toBe(200);
    const before = pullLimit.refused.GET + pullLimit.refused.HEAD;
    await refusesWhatIsNotHere(cistern.url);
    // One of them may have been let through to look.
    expect(pullLimit.refused.GET + pullLimit.refused.HEAD - before).toBeLessThanOrEqual(1);

    pullLimit.beginWindow();
    await seesVersion(cistern.url, rounds - 1);
    expect(await metric(cistern, 'cistern_upstream_ratelimit_exhausted')).toBe(0);
  });

  it('is asked with a second credential when the first has used up its pulls', async () => {
    const pullLimit = new PullLimit(3, 10);
    const users = { me: 'secret', other: 'secret2' };
    await using mirror = await startMirror({
      upstream: { pullLimit, users },
      proxy: { ...restless, ...user, credentials: [{ username: 'other', password: 'secret2' }] },
    });
    const { upstream, url, cistern } = mirror;
    for (let tag = 0; tag < 6; tag += 1) {
      upstream.addImage(`team/tag${tag}`, 'v1', version(tag, 0));
      const answer = await fetch(url(`team/tag${tag}/manifests/v1`));
      expect({ tag, status: answer.status }).toEqual({ tag, status: 200 });
      await answer.arrayBuffer();
    }
    expect(pullLimit.granted).toBe(6);
    await refusesWhatIsNotHere(cistern.url);
    await expect.poll(() => cistern.log()).toContain('the pull limit is used up');
    expect(cistern.log()).not.toContain('secret2');
  });

  it('lengthens the time for which tags are believed as less is left', async () => {
    const pullLimit = new PullLimit(10, 3600);
    await using mirror = await startMirror({ upstream: { pullLimit }, proxy: { freshness: '30s' } });
    const { upstream, url, cistern } = mirror;
    const factors: number[] = [];
    for (let tag = 0; tag < 10; tag += 1) {
      upstream.addImage(`team/tag${tag}`, 'v1', version(tag, 0));
      await (await fetch(url(`team/tag${tag}/manifests/v1`))).arrayBuffer();
      factors.push(await metric(cistern, 'cistern_upstream_freshness_factor'));
    }
    expect(factors).toEqual([1, 1, 1, 1, 1, 2, 2, 2, 10, 10]);
  });
});

describe.skipIf(lacks('redis-server'))('three replicas at an upstream that counts pulls', () => {
  it('overdraw it together no more than one, and notice a new window', async () => {
    const pullLimit = new PullLimit(limit, 10);
    await using cluster = await startReplicas({
      count: 3,
      upstream: { pullLimit, users: { me: 'secret' } },
      proxy: { ...restless, ...user },
    });
    const { upstream, replicas, redis } = cluster;
    await overload(upstream, pullLimit, replicas);
    // Whoever asks learns what the others know.
    for (const { url } of replicas) await refusesWhatIsNotHere(url);
    const keys = await redis.client().keys('cistern:*:budget:*');
    expect(keys).toHaveLength(1);
    expect(keys.join()).not.toContain('me');

    pullLimit.beginWindow();
    for (const { url } of replicas) await seesVersion(url, rounds - 1);
  });
});

/** Until the mirror gives what the tag points to now: it has asked again. */
async function seesVersion(url: string, round: number): Promise<void> {
  const { digest } = version(0, round).manifest;
  await until(async () => {
    const answer = await fetch(`${url}/v2/team/tag0/manifests/v1`);
    await answer.arrayBuffer();
    return answer.headers.get('docker-content-digest') === digest && answer.headers.get('warning') === null;
  }, patience());
}
