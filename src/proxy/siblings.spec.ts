import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { digestOf, type Digest } from '../oci/digest.js';
import { ociIndex, ociManifest } from '../oci/manifest.js';
import { parseRepository } from '../oci/name.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { UpstreamError, type Budget, type Upstream } from '../upstream/upstream.js';
import type { BlobAnswer, Manifest } from './proxy.js';
import { Siblings } from './siblings.js';

const digest = (text: string): Digest => digestOf(Buffer.from(text));

function manifestOf(name: string, layers: number): Manifest {
  const layer = (_: unknown, index: number) => ({ digest: digest(`${name}${index}`), size: 1 });
  const bytes = Buffer.from(JSON.stringify({ layers: Array.from({ length: layers }, layer) }));
  return { digest: digestOf(bytes), size: bytes.length, mediaType: ociManifest, bytes };
}

function routeOf(name: string, freshnessFactor?: number): Route {
  const repository = parseRepository(name);
  if (repository === undefined) throw new TypeError(name);
  const budget = freshnessFactor === undefined ? undefined : { limit: 100, remaining: 10, freshnessFactor };
  const upstream = { host: 'docker.io', budget: budget as Budget | undefined } as Upstream;
  return { upstream, host: 'docker.io', name: repository, stored: repository };
}

/** Blobs that are stored once the test lets them be. */
function start(options: { maxTransfers?: number; hosts?: string[] } = {}) {
  const asked: Digest[] = [];
  const opened: PromiseWithResolvers<BlobAnswer>[] = [];
  const metrics = new Metrics();
  const siblings = new Siblings({
    blobs: {
      open: (_, blob) => {
        asked.push(blob);
        const waiting = Promise.withResolvers<BlobAnswer>();
        opened.push(waiting);
        return waiting.promise;
      },
    },
    transfers: { get: () => undefined },
    hosts: new Set(options.hosts ?? ['docker.io']),
    maxTransfers: options.maxTransfers ?? 256,
    log: { debug: () => undefined },
    metrics,
  });
  const give = async (): Promise<void> => {
    const body = (async function* () {})();
    const close = (): Promise<void> => Promise.resolve();
    opened.shift()?.resolve({ size: 1, range: undefined, outcome: 'hit', body, close });
    await turn();
  };
  const counted = async (result: string): Promise<number | undefined> =>
    (await metrics.siblings.get()).values.find(({ labels }) => labels['result'] === result)?.value;
  return { siblings, asked, opened, give, counted };
}

describe('siblings', () => {
  it('are fetched a few at a time, in the order of the manifest', async () => {
    const { siblings, asked, give, counted } = start();
    siblings.follow(routeOf('a'), manifestOf('a', 6));
    expect(asked).toEqual([0, 1, 2, 3].map((index) => digest(`a${index}`)));
    await give();
    expect(asked).toHaveLength(5);
    for (let left = 0; left < 5; left += 1) await give();
    expect([asked.length, await counted('stored')]).toEqual([6, 6]);
  });

  it.each([
    [16, 4],
    [8, 2],
    [3, 0],
  ])('take at most a quarter of %i transfers', (maxTransfers, expected) => {
    const { siblings, asked } = start({ maxTransfers });
    siblings.follow(routeOf('a'), manifestOf('a', 6));
    expect(asked).toHaveLength(expected);
  });

  it('are looked at once when many clients get the same manifest, but in each repository', () => {
    const { siblings, asked } = start();
    for (const name of ['a', 'a', 'b']) siblings.follow(routeOf(name), manifestOf('same', 1));
    expect(asked).toHaveLength(2);
  });

  it.each<[string, Route, Manifest, string[]]>([
    ['of an index', routeOf('a'), { ...manifestOf('a', 2), mediaType: ociIndex }, ['docker.io']],
    ['where it is not switched on', routeOf('a'), manifestOf('a', 2), ['ghcr.io']],
    [
      'of nobody who could be asked',
      { ...routeOf('a'), upstream: undefined },
      manifestOf('a', 2),
      ['docker.io'],
    ],
    ['while little is left of the pull limit', routeOf('a', 2), manifestOf('a', 2), ['docker.io']],
  ])('are left alone: %s', (_, route, manifest, hosts) => {
    const { siblings, asked } = start({ hosts });
    siblings.follow(route, manifest);
    expect(asked).toEqual([]);
  });

  it('come again when there is enough of the pull limit', () => {
    const { siblings, asked } = start();
    siblings.follow(routeOf('a', 10), manifestOf('a', 1));
    siblings.follow(routeOf('a', 1), manifestOf('a', 1));
    expect(asked).toHaveLength(1);
  });

  it('fail by themselves', async () => {
    const { siblings, opened, asked, counted } = start();
    siblings.follow(routeOf('a'), manifestOf('a', 5));
    opened.shift()?.reject(new UpstreamError('denied', 'docker.io', 'no'));
    opened.shift()?.reject(new UpstreamError('timeout', 'docker.io', 'no'));
    await turn();
    expect([asked.length, await counted('refused'), await counted('failed')]).toEqual([5, 1, 1]);
  });

  it('do not wait without bound', async () => {
    const { siblings, counted } = start();
    siblings.follow(routeOf('a'), manifestOf('a', 600));
    expect(await counted('dropped')).toBe(100);
  });

  it('begin nothing after the end', async () => {
    const { siblings, asked, give } = start();
    siblings.follow(routeOf('a'), manifestOf('a', 6));
    siblings.stop();
    await give();
    siblings.follow(routeOf('b'), manifestOf('b', 6));
    expect(asked).toHaveLength(4);
  });
});
