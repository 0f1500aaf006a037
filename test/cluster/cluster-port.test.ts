import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FrameReader, messageFrame } from '../../src/cluster/peers/frames.js';
import { peerPath } from '../../src/cluster/peers/peer-server.js';
import { Seal } from '../../src/cluster/peers/seal.js';
import { digestOf } from '../../src/oci/digest.js';
import { SlowClient } from '../fakes/slow-client.js';
import { lacks } from '../parts/debian.js';
import { blobOf } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { type Replica, type Replicas, startReplicas } from '../parts/replicas.js';
import { patience } from '../parts/patience.js';
import { identityOf, redisValuesOf } from '../parts/sealed.js';

const size = 8 * 1024 * 1024;

describe.skipIf(lacks('redis-server'))('the cluster port', () => {
  const blob = blobOf(size, 'live');
  const goOn = Promise.withResolvers<void>();
  let cluster: Replicas;
  let replica: Replica;
  let client: SlowClient;
  let seal: Seal;
  let attempt: string;

  // A transfer that stands still at its half, so that there is a live spool.
  beforeAll(async () => {
    cluster = await startReplicas({ count: 1 });
    replica = cluster.replica(0);
    cluster.upstream.addBlob('app', blob);
    cluster.upstream.fault({ path: /blobs/ }, { stallAt: size / 2, until: goOn.promise });
    client = new SlowClient(replica.v2(`app/blobs/${blob.digest}`));
    await client.received(size / 4);
    const { root } = cluster.store;
    seal = new Seal((await identityOf(root)).secret);
    const { keys, values } = await redisValuesOf(root);
    const name = keys.leader(`blob:${blob.digest}`);
    const redis = cluster.redis.client();
    await until(async () => (await redis.get(name)) !== null, patience());
    const record = values.open('leader', name, await redis.get(name)) ?? '{}';
    ({ attempt } = JSON.parse(record) as { attempt: string });
  });
  afterAll(async () => {
    goOn.resolve();
    await client.finished;
    await cluster[Symbol.asyncDispose]();
  });

  interface Asked {
    readonly digest?: string;
    readonly attempt?: string;
    readonly offset?: number;
    readonly nonce?: string;
    /** What the proof is made for, where that is something else. */
    readonly proven?: Readonly<Partial<{ digest: string; attempt: string; offset: number; nonce: string }>>;
    readonly seal?: Seal;
    readonly method?: string;
    readonly path?: string;
    readonly url?: string;
  }
  function ask(asked: Asked): Promise<Response> {
    const parts = {
      digest: asked.digest ?? blob.digest,
      attempt: asked.attempt ?? attempt,
      offset: asked.offset ?? 0,
      nonce: asked.nonce ?? seal.newNonce(),
    };
    const mac = (asked.seal ?? seal).request({ ...parts, ...asked.proven });
    const path = asked.path ?? peerPath(parts.digest, parts.attempt, parts.offset);
    return fetch(`${asked.url ?? replica.clusterUrl}${path}`, {
      method: asked.method ?? 'GET',
      headers: { authorization: `Cistern ${parts.nonce} ${mac}` },
    });
  }
  /** All that an answer tells. */
  async function told(response: Response): Promise<object> {
    const ofHttp = new Set(['date', 'connection', 'keep-alive', 'content-length', 'transfer-encoding']);
    const headers = [...response.headers.keys()].filter((name) => !ofHttp.has(name));
    return { status: response.status, body: await response.text(), headers };
  }
  const refused = { status: 403, body: '', headers: [] };
  const notThere = { status: 404, body: '', headers: [] };

  it('gives a live spool, from any offset, to who proves the secret', async () => {
    const offset = 1_234_567;
    const nonce = seal.newNonce();
    const response = await ask({ offset, nonce });
    expect(response.status).toBe(200);
    const frames = new FrameReader();
    const data: Buffer[] = [];
    let message: string | undefined;
    const wanted = size / 2 - offset;
    for await (const chunk of response.body ?? []) {
      for (const { type, payload } of frames.push(Buffer.from(chunk))) {
        if (type === messageFrame) message ??= payload.toString();
        else data.push(Buffer.from(payload));
      }
      if (data.reduce((sum, { byteLength }) => sum + byteLength, 0) >= wanted) break;
    }
    expect(Buffer.concat(data).equals(blob.bytes.subarray(offset, offset + wanted))).toBe(true);
    const [mac = '', text = ''] = message?.split(/ (.*)/) ?? [];
    expect(seal.isMessage(nonce, 0, text, mac)).toBe(true);
    expect(JSON.parse(text)).toMatchObject({ kind: 'alive', size, repositories: ['app'] });
  });

  it('refuses who proves nothing', async () => {
    expect(await told(await fetch(replica.clusterUrl + peerPath(blob.digest, attempt, 0)))).toEqual(refused);
  });

  it.each<[string, () => Asked]>([
    ['another secret', () => ({ seal: new Seal('another') })],
    ['another digest', () => ({ proven: { digest: digestOf(Buffer.from('other')) } })],
    ['another attempt', () => ({ proven: { attempt: '0'.repeat(32) } })],
    ['another offset', () => ({ proven: { offset: 1 } })],
    ['another nonce', () => ({ proven: { nonce: '0'.repeat(32) } })],
  ])('refuses a proof made with %s', async (_title, asked) => {
    expect(await told(await ask(asked()))).toEqual(refused);
  });

  it('takes a proof once', async () => {
    const nonce = seal.newNonce();
    const first = await ask({ nonce });
    expect(first.status).toBe(200);
    await first.body?.cancel();
    expect(await told(await ask({ nonce }))).toEqual(refused);
  });

  it.each<[string, () => Asked]>([
    ['an attempt that it does not know', () => ({ attempt: '0'.repeat(32) })],
    ['a digest that the attempt is not for', () => ({ digest: digestOf(Buffer.from('other')) })],
  ])('has nothing for %s', async (_title, asked) => {
    expect(await told(await ask(asked()))).toEqual(notThere);
  });

  it.each(['/', '/v2/', '/metrics', '/spools/', '/debug/health', '/spools/..%2f..%2fetc%2fpasswd', '//'])(
    'refuses %s, whatever is proven',
    async (path) => {
      expect(await told(await ask({ path }))).toEqual(refused);
    },
  );

  it.each(['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])('refuses %s', async (method) => {
    expect(await told(await ask({ method }))).toEqual(refused);
  });

  it('cannot be reached through the public port', async () => {
    for (const prefix of ['', '/v2']) {
      const response = await ask({
        url: replica.url,
        path: `${prefix}${peerPath(blob.digest, attempt, 0)}`,
      });
      expect(response.status).toBe(404);
      await response.body?.cancel();
    }
    const debug = await ask({ url: replica.debugUrl });
    expect(debug.status).toBe(404);
  });
});
