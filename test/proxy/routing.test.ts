import { request } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { type Image, imageOf, randomLayer } from '../parts/image.js';
import { filesUnder, soundStore, untilIdle } from '../parts/mirror.js';

describe('one mirror for many upstreams', () => {
  const upstreams: Record<'hub' | 'ghcr' | 'local', FakeUpstream> = {} as never;
  const images: Record<string, Image> = {};
  let cistern: Cistern;
  beforeAll(async () => {
    for (const name of ['hub', 'ghcr', 'local'] as const) {
      upstreams[name] = await FakeUpstream.start();
      for (const repository of ['library/alpine', 'team/app', 'alpine']) {
        const image = imageOf({ layers: [randomLayer(100, `${name} ${repository}`)] });
        images[`${name} ${repository}`] = image;
        upstreams[name].addImage(repository, 'v1', image);
      }
    }
    cistern = await startCistern({
      config: {
        proxy: {
          remoteurl: upstreams.hub.url,
          host: 'docker.io',
          upstreams: [
            { host: 'ghcr.io', url: upstreams.ghcr.url, hosts: ['ghcr.mirror.test'] },
            { host: 'registry.local:5000', url: upstreams.local.url, hosts: ['local.mirror.test:8443'] },
          ],
        },
      },
    });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    for (const upstream of Object.values(upstreams)) await upstream[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    for (const upstream of Object.values(upstreams)) upstream.requests.length = 0;
  });

  interface Answer {
    readonly status: number;
    readonly digest: string | undefined;
    readonly namespace: string | undefined;
    readonly body: string;
  }

  /** `fetch` does not let one choose the header Host. */
  async function ask(path: string, host = cistern.host): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    request(`${cistern.url}/v2/${path}`, { headers: { host } }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          digest: response.headers['docker-content-digest'] as string | undefined,
          namespace: response.headers['oci-namespace'] as string | undefined,
          body,
        }),
      );
    })
      .once('error', reject)
      .end();
    return promise;
  }

  it.each([
    // path, Host, what it is
    ['team/app/manifests/v1', undefined, 'hub team/app', 'docker.io'],
    ['team/app/manifests/v1?ns=ghcr.io', undefined, 'ghcr team/app', 'ghcr.io'],
    ['team/app/manifests/v1?ns=GHCR.io', undefined, 'ghcr team/app', 'ghcr.io'],
    ['team/app/manifests/v1?ns=registry.local:5000', undefined, 'local team/app', 'registry.local:5000'],
    ['team/app/manifests/v1?ns=registry.local%3A5000', undefined, 'local team/app', 'registry.local:5000'],
    ['team/app/manifests/v1', 'ghcr.mirror.test', 'ghcr team/app', 'ghcr.io'],
    ['team/app/manifests/v1', 'GHCR.mirror.test:8443', 'ghcr team/app', 'ghcr.io'],
    ['team/app/manifests/v1', 'local.mirror.test:8443', 'local team/app', 'registry.local:5000'],
    ['team/app/manifests/v1?ns=docker.io', 'ghcr.mirror.test', 'hub team/app', 'docker.io'],
    ['ghcr.io/team/app/manifests/v1', undefined, 'ghcr team/app', 'ghcr.io'],
    ['registry.local:5000/team/app/manifests/v1', undefined, 'local team/app', 'registry.local:5000'],
    ['registry.local%3A5000/team/app/manifests/v1', undefined, 'local team/app', 'registry.local:5000'],
    ['alpine/manifests/v1', undefined, 'hub library/alpine', 'docker.io'],
    ['docker.io/alpine/manifests/v1', undefined, 'hub library/alpine', 'docker.io'],
    ['docker.io/library/alpine/manifests/v1', undefined, 'hub library/alpine', 'docker.io'],
    ['alpine/manifests/v1?ns=index.docker.io', undefined, 'hub library/alpine', 'docker.io'],
    ['alpine/manifests/v1?ns=registry-1.docker.io', undefined, 'hub library/alpine', 'docker.io'],
    ['alpine/manifests/v1?ns=ghcr.io', undefined, 'ghcr alpine', 'ghcr.io'],
  ])('%s at %s is %s', async (path, host, image, namespace) => {
    expect(await ask(path, host)).toMatchObject({
      status: 200,
      digest: images[image]?.manifest.digest,
      namespace,
    });
  });

  it.each([
    ['team/app/manifests/v1?ns=quay.io', undefined],
    ['team/app/manifests/v1?ns=127.0.0.1:1', undefined],
    ['team/app/manifests/v1?ns=http://ghcr.io', undefined],
    ['quay.io/team/app/manifests/v1', undefined],
    ['localhost/team/app/manifests/v1', undefined],
    ['127.0.0.1:9/team/app/manifests/v1', undefined],
  ])('%s leads nowhere', async (path) => {
    const { status, body } = await ask(path);
    expect(status).toBe(404);
    expect(JSON.parse(body)).toMatchObject({ errors: [{ code: 'NAME_UNKNOWN' }] });
    for (const upstream of Object.values(upstreams)) expect(upstream.requests).toEqual([]);
  });

  it('never connects to a host that a client names', async () => {
    await using stranger = await FakeUpstream.start();
    stranger.addImage('team/app', 'v1', images['hub team/app'] as Image);
    for (const path of [
      `team/app/manifests/v1?ns=${stranger.host}`,
      `${stranger.host}/team/app/manifests/v1`,
    ]) {
      expect((await ask(path)).status).toBe(404);
    }
    await ask('team/app/manifests/v1', stranger.host);
    expect(stranger.requests).toEqual([]);
  });

  it('stores the default’s repositories without a prefix, the others under their host', async () => {
    for (const [path, image] of [
      ['team/app', 'hub team/app'],
      ['ghcr.io/team/app', 'ghcr team/app'],
      ['registry.local:5000/team/app', 'local team/app'],
    ] as const) {
      for (const { digest } of [images[image]?.config, images[image]?.layers[0]].filter(
        (item) => item !== undefined,
      )) {
        expect((await ask(`${path}/blobs/${digest}`)).status).toBe(200);
      }
      expect((await ask(`${path}/manifests/v1`)).status).toBe(200);
    }
    await untilIdle(cistern);
    const { links } = await soundStore(cistern.root);
    for (const [tree, image] of [
      ['team/app', 'hub team/app'],
      ['ghcr.io/team/app', 'ghcr team/app'],
      ['registry.local__5000/team/app', 'local team/app'],
    ] as const) {
      expect(links[`${tree}/_manifests/tags/v1/current/link`]).toBe(images[image]?.manifest.digest);
      expect(links[`${tree}/_layers/sha256/${images[image]?.config.digest.slice(7)}/link`]).toBe(
        images[image]?.config.digest,
      );
    }
    expect((await filesUnder(cistern.root)).filter((path) => path.includes(':'))).toEqual([]);
    // The tree's own spelling is no way in.
    expect((await ask('registry.local__5000/team/app/manifests/v1')).status).toBe(404);
  });
});
