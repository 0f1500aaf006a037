import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lifetimeSeconds } from '../../src/storage/s3/signed-addresses.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { clockOff } from '../parts/clock.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, untilIdle } from '../parts/mirror.js';
import { startReplicas, type Replicas } from '../parts/replicas.js';
import { newBucket, newFolder, type NewStore } from '../parts/stores.js';

const secret = blobOf(100_000, 'secret');
const image = imageOf({ layers: [randomLayer(100, 'secret image')] });
const digests = { blobs: secret.digest, manifests: image.manifest.digest };

const basic = (name: string) => `Basic ${Buffer.from(`${name}:right`).toString('base64')}`;

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly location: string | undefined;
}

/** With any header, `Host` too, which `fetch` does not send. */
function get(url: string, method: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  request(url, { method, headers, agent: false }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () =>
      resolve({
        status: response.statusCode ?? 0,
        body: Buffer.concat(chunks),
        location: response.headers.location,
      }),
    );
  })
    .on('error', reject)
    .end();
  return promise;
}

/** Ways to name a repository: its path, the query, and the host that is asked. */
const ways = [
  ['private.example/team/secret', '', undefined],
  ['PRIVATE.example/team/secret', '', undefined],
  ['team/secret', '?ns=private.example', undefined],
  ['team/secret', '', 'private.mirror'],
  ['team/secret', '', 'private.mirror:5000'],
  ['private.example/team/secret', '?ns=docker.io', undefined],
  ['team/secret', '', undefined],
  ['team/secret', '?ns=public.example', undefined],
  ['public.example/team/secret', '', undefined],
  ['public.example/free/app', '', undefined],
  ['free/app', '?ns=public.example', undefined],
  ['free/app', '', 'public.mirror'],
  ['free/app', '?ns=private.example', undefined],
  ['private.example/free/app', '', undefined],
  ['private.example/free/../team/secret', '', undefined],
  ['private.example/free%2F..%2Fteam%2Fsecret', '', undefined],
  ['private.example%2Fteam%2Fsecret', '', undefined],
  ['free/app', '', undefined],
  ['', '', undefined],
] as const;

const requests: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
  ['GET', {}],
  ['HEAD', {}],
  ['GET', { range: 'bytes=0-9' }],
  ['GET', { range: 'bytes=0-9,20-29' }],
  ['GET', { 'if-none-match': `"${secret.digest}"` }],
  ['GET', { 'if-none-match': `"${image.manifest.digest}"` }],
  ['GET', { 'if-none-match': '*' }],
  ['HEAD', { 'if-none-match': '*' }],
  ['GET', { 'x-forwarded-for': '10.0.0.1', 'x-forwarded-host': 'private.mirror' }],
];

/** With private content in every cache there is, and its link, on both replicas. */
async function startScene(cleanup: AsyncDisposableStack, newStore: NewStore): Promise<Replicas> {
  const folder = cleanup.use(await temporaryFolder());
  const path = await writeHtpasswd({ ann: 'right', bob: 'right' }, folder.path);
  const hidden = cleanup.use(await FakeUpstream.start());
  const open = cleanup.use(await FakeUpstream.start());
  hidden.addBlob('team/secret', secret);
  hidden.addImage('team/secret', 'v1', image);
  for (const upstream of [hidden, open]) upstream.addBlob('free/app', blobOf(10, 'free'));
  const auth = { htpasswd: { realm: 'r', path } };
  const replicas = cleanup.use(
    await startReplicas({
      count: 2,
      newStore,
      config: () => ({ auth, http: { trustedproxies: ['192.0.2.1'] } }),
      proxy: {
        upstreams: [
          {
            host: 'private.example',
            url: hidden.url,
            hosts: ['private.mirror'],
            access: [
              { users: ['ann'] },
              { users: ['*'], repositories: ['free/*'] },
              { networks: ['10.0.0.0/8'] },
            ],
          },
          { host: 'public.example', url: open.url, hosts: ['public.mirror'] },
        ],
      },
    }),
  );
  const headers = { authorization: basic('ann') };
  const wanted = [...Object.entries(digests).map((each) => each.join('/')), 'manifests/v1'];
  for (const replica of replicas.replicas) {
    // Twice: only what is stored has an address in a bucket.
    for (const what of [...wanted, ...wanted]) {
      const answer = await get(replica.v2(`private.example/team/secret/${what}`), 'GET', headers);
      if (answer.status >= 400) throw new Error(`${what}: ${answer.status} for who may have it`);
      await untilIdle(replica);
    }
  }
  return replicas;
}

/** Who logged in as bob, and who did not. */
function publicContentOnly(scene: () => Replicas): void {
  it.each(ways)('gets no private blob or manifest through %j%s at %s', async (name, query, host) => {
    for (const replica of scene().replicas) {
      for (const [method, more] of requests) {
        for (const authorization of [basic('bob'), undefined]) {
          const headers = {
            ...more,
            ...(authorization === undefined ? {} : { authorization }),
            ...(host === undefined ? {} : { host }),
          };
          for (const [kind, digest] of Object.entries(digests)) {
            const url = `${replica.url}/v2/${name}/${kind}/${digest}${query}`;
            const answer = await get(url, method, headers);
            const { status, location, body } = answer;
            expect([status, location], `${method} ${url} ${JSON.stringify(more)}`).toEqual([
              expect.toBeOneOf(authorization === undefined ? [401] : [400, 403, 404]),
              undefined,
            ]);
            expect(body.includes(secret.bytes.subarray(0, 10))).toBe(false);
          }
        }
      }
    }
  });

  it.each(['tags/list', 'manifests/v1', `referrers/${image.manifest.digest}`])(
    'learns nothing of it: %s',
    async (what) => {
      const answer = await get(scene().replica(0).v2(`private.example/team/secret/${what}`), 'GET', {
        authorization: basic('bob'),
      });
      expect(answer.status).toBe(403);
      expect(JSON.parse(answer.body.toString())).toMatchObject({ errors: [{ code: 'DENIED' }] });
    },
  );

  it('does not see it in the catalogue', async () => {
    const catalogue = async (name: string): Promise<unknown> =>
      JSON.parse(
        (
          await get(scene().replica(1).v2('_catalog?n=1'), 'GET', { authorization: basic(name) })
        ).body.toString(),
      );
    expect(await catalogue('ann')).toEqual({ repositories: ['private.example/team/secret'] });
    expect(await catalogue('bob')).toEqual({ repositories: [] });
  });

  it('gets none from the cluster port, with or without a login', async () => {
    for (const headers of [{}, { authorization: basic('bob') }, { authorization: basic('ann') }]) {
      for (const path of [
        `/v2/private.example/team/secret/blobs/${secret.digest}`,
        `/${secret.digest}`,
        '/',
      ]) {
        const answer = await get(`${scene().replica(0).clusterUrl}${path}`, 'GET', headers);
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(answer.body.includes(secret.bytes.subarray(0, 10))).toBe(false);
      }
    }
  });
}

const title = 'who may pull public content only';

describe.skipIf(lacks('redis-server'))(`${title}, over a folder`, () => {
  const cleanup = new AsyncDisposableStack();
  let replicas: Replicas;
  beforeAll(async () => {
    replicas = await startScene(cleanup, newFolder);
  });
  afterAll(() => cleanup.disposeAsync());

  publicContentOnly(() => replicas);
});

describe.skipIf(lacks('redis-server', 'faketime', ...cephParts))(`${title}, where a bucket sends it`, () => {
  const cleanup = new AsyncDisposableStack();
  let rgw: CephRgw;
  let replicas: Replicas;
  beforeAll(async () => {
    rgw = cleanup.use(await startCephRgw());
    replicas = await startScene(cleanup, () => newBucket(rgw, { redirect: true }));
  });
  afterAll(() => cleanup.disposeAsync());

  publicContentOnly(() => replicas);

  /** Where each replica sends who may have it. */
  const addresses = (): Promise<URL[]> =>
    Promise.all(
      replicas.replicas.map(async (replica) => {
        const url = replica.v2(`private.example/team/secret/blobs/${secret.digest}`);
        const { status, location = '' } = await get(url, 'GET', { authorization: basic('ann') });
        expect(status).toBe(307);
        return new URL(location);
      }),
    );

  it('is not sent there, and who may have it is, for minutes', async () => {
    const before = await addresses();
    for (const address of before) {
      expect(address.origin).toBe(rgw.regionendpoint);
      expect(Number(address.searchParams.get('X-Amz-Expires'))).toBeLessThanOrEqual(lifetimeSeconds);
      const answer = await fetch(address);
      expect(Buffer.from(await answer.arrayBuffer()).equals(secret.bytes)).toBe(true);
      // Nothing can be changed about it: not when it ends, nor what it leads to.
      for (const [name, value] of [
        ['X-Amz-Expires', '604800'],
        ['X-Amz-Signature', '0'.repeat(64)],
      ] as const) {
        const changed = new URL(address);
        changed.searchParams.set(name, value);
        expect((await fetch(changed)).status).toBe(403);
      }
      const other = new URL(address);
      other.pathname = address.pathname.replaceAll(hexOf(secret.digest), hexOf(image.manifest.digest));
      expect((await fetch(other)).status).toBe(403);
    }
    // A replica gives out the same presigned URL several times, so it may have been signed a while ago.
    const age = Math.max(...before.map((address) => (Date.now() - signedAt(address)) / 1_000));
    for (const [later, status] of [
      [Math.floor(lifetimeSeconds - 60 - age), 200],
      [lifetimeSeconds + 60, 403],
    ] as const) {
      await rgw.stopGateway();
      await rgw.startGateway(clockOff(later));
      for (const address of before) {
        const answer = await fetch(address);
        expect([later, answer.status]).toEqual([later, status]);
        await answer.arrayBuffer();
      }
    }
  });

  it('finds no address in the logs and the metrics', async () => {
    for (const replica of replicas.replicas) {
      const sent = () => replica.logRecords().filter((line) => line['http.response.status'] === 307);
      await expect.poll(() => sent().length).toBeGreaterThan(1);
      const metrics = await (await fetch(`${replica.debugUrl}/metrics`)).text();
      for (const said of [replica.log(), metrics]) expect(said).not.toMatch(/X-Amz-|Signature=/i);
    }
  });
});

const hexOf = (digest: string): string => digest.slice('sha256:'.length);

/** The time when a URL was signed, in milliseconds since 1970. */
function signedAt({ searchParams }: URL): number {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(searchParams.get('X-Amz-Date') ?? '') ?? [];
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}
