import { afterEach, describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, startMirror } from '../parts/mirror.js';
import { startReplicas } from '../parts/replicas.js';
import { Collector, type ReceivedSpan } from './collector.js';

const image = imageOf({ layers: [randomLayer(300_000, 'traced')] });
const [layer] = image.layers;
const user = 'robot-account';
const password = 'hunter2-of-the-upstream';
const header = 'collector-key-4711';

const cleanup: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of cleanup.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

async function startCollector(): Promise<Collector> {
  const collector = await Collector.start();
  cleanup.push(collector);
  return collector;
}

function environment(collector: Collector): Record<string, string> {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: `x-api-key=${header}`,
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    OTEL_SERVICE_NAME: 'mirror',
    OTEL_BSP_SCHEDULE_DELAY: '100',
  };
}

/** A request with a trace of the caller's own; returns its id. */
async function getTraced(url: string): Promise<{ readonly traceId: string; readonly requestId: string }> {
  const traceId = crypto.randomUUID().replaceAll('-', '');
  const headers = { accept: image.manifest.mediaType, traceparent: `00-${traceId}-00000000000000aa-01` };
  const answer = await fetch(url, { headers });
  await answer.bytes();
  return { traceId, requestId: answer.headers.get('x-request-id') ?? '' };
}

/** A trace's spans once its request has ended, and whatever else is named. */
async function traceOf(
  collector: Collector,
  traceId: string,
  names: readonly string[],
): Promise<ReceivedSpan[]> {
  for (const name of names) await collector.span((span) => span.traceId === traceId && span.name === name);
  return collector.spans.filter((span) => span.traceId === traceId);
}

function named(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const found = spans.find((span) => span.name === name);
  if (found === undefined)
    throw new Error(`no span ${name} among ${spans.map((span) => span.name).join(', ')}`);
  return found;
}

describe('traces of one mirror', () => {
  it('show a cold blob: the request, its transfer, and what that asked of the upstream and did to the storage', async () => {
    const collector = await startCollector();
    const mirror = await startMirror({
      env: environment(collector),
      upstream: { users: { [user]: password } },
      proxy: { host: 'docker.io', username: user, password },
    });
    cleanup.push(mirror);
    const { upstream, cistern, url } = mirror;
    upstream.addImage('library/app', 'v1', image);
    const { digest } = layer ?? image.config;

    const cold = await getTraced(url(`library/app/blobs/${digest}`));
    const spans = await traceOf(collector, cold.traceId, ['GET blob', 'transfer']);
    const request = named(spans, 'GET blob');
    expect(request).toMatchObject({
      parent: '00000000000000aa',
      failed: false,
      attributes: {
        'http.response.status_code': 200,
        'http.request.id': cold.requestId,
        'cistern.repository': 'library/app',
        'cistern.reference': digest,
        'cistern.upstream': 'docker.io',
        'cistern.cache': 'miss',
        'http.response.body.size': layer?.size,
      },
      resource: {
        'service.name': 'mirror',
        'service.version': expect.any(String) as string,
        'deployment.environment.name': 'test',
      },
    });
    const transfer = named(spans, 'transfer');
    expect(transfer).toMatchObject({
      parent: request.spanId,
      attributes: { 'cistern.digest': digest, 'cistern.bytes': layer?.size },
    });
    const asked = spans.filter(({ name }) => name === 'upstream GET blob');
    expect(asked.map(({ parent }) => parent)).toEqual(asked.map(() => transfer.spanId));
    expect(asked.map(({ attributes }) => attributes['http.response.status_code'])).toEqual([401, 200]);
    expect(spans.some(({ name, parent }) => name.startsWith('storage ') && parent === transfer.spanId)).toBe(
      true,
    );

    // Foreign hosts are told nothing of it, and the access line leads to it.
    expect(upstream.requests.filter(({ headers }) => headers['traceparent'] !== undefined)).toEqual([]);
    await expect
      .poll(() => cistern.logRecords().filter((line) => line['trace_id'] === cold.traceId))
      .toHaveLength(1);

    // Warm: nobody else is asked.
    const warm = await getTraced(url(`library/app/blobs/${digest}`));
    const warmSpans = await traceOf(collector, warm.traceId, ['GET blob', 'storage Reader']);
    expect(named(warmSpans, 'GET blob').attributes).toMatchObject({ 'cistern.cache': 'hit' });
    expect(warmSpans.filter(({ name }) => !/^(?:GET blob|storage \w+)$/.test(name))).toEqual([]);
    expect(named(warmSpans, 'storage Reader').parent).toBe(named(warmSpans, 'GET blob').spanId);

    // By the headers that the environment wants; no secret in any span, and none in the log.
    expect(new Set(collector.requests.map(({ url }) => url))).toEqual(new Set(['/v1/traces']));
    expect(collector.requests.every(({ headers }) => headers['x-api-key'] === header)).toBe(true);
    const bodies = collector.requests.map(({ body }) => body).join('\n');
    for (const secret of [password, header, Buffer.from(`${user}:${password}`).toString('base64')]) {
      expect(bodies).not.toContain(secret);
      expect(cistern.log()).not.toContain(secret);
    }
  });

  it('show what failed as failed, and send the rest when the mirror stops', async () => {
    const collector = await startCollector();
    const mirror = await startMirror({
      env: { ...environment(collector), OTEL_BSP_SCHEDULE_DELAY: '600000' },
      proxy: { host: 'docker.io' },
    });
    cleanup.push(mirror);
    const damaged = blobOf(50_000, 'damaged');
    mirror.upstream.addBlob('library/app', damaged);
    mirror.upstream.fault({ path: `/v2/library/app/blobs/${damaged.digest}` }, { corruptAt: 10 });
    const missing = await getTraced(mirror.url('library/app/manifests/none'));
    await getTraced(mirror.url(`library/app/blobs/${damaged.digest}`)).catch(() => undefined);
    expect(collector.spans).toEqual([]);
    const { code } = await mirror.cistern.stop();
    expect(code).toBe(0);
    const notFound = named(
      collector.spans.filter(({ traceId }) => traceId === missing.traceId),
      'GET manifest',
    );
    expect(notFound).toMatchObject({ failed: false, attributes: { 'http.response.status_code': 404 } });
    expect(named(collector.spans, 'transfer')).toMatchObject({
      failed: true,
      attributes: { 'error.type': 'DigestMismatch' },
    });
    expect(named(collector.spans, 'GET blob').failed).toBe(true);
  });

  it('cost no client anything while the collector is away, which is said once, and its return too', async () => {
    const collector = await startCollector();
    const mirror = await startMirror({
      env: { ...environment(collector), OTEL_EXPORTER_OTLP_TIMEOUT: '300' },
      proxy: { host: 'docker.io' },
    });
    cleanup.push(mirror);
    mirror.upstream.addImage('library/app', 'v1', image);
    await collector.down();
    const said = (message: string): number =>
      mirror.cistern.logRecords().filter(({ msg }) => msg === message).length;
    const pull = async (): Promise<number> => (await fetch(mirror.url('library/app/manifests/v1'))).status;
    const away = 'traces cannot be sent, they are dropped until they can';
    await expect.poll(async () => [await pull(), said(away)]).toEqual([200, 1]);
    await collector.up();
    const back = 'traces are sent again';
    await expect.poll(async () => [await pull(), said(back)]).toEqual([200, 1]);
    expect(said(away)).toBe(1);
    expect(mirror.cistern.log()).not.toContain(header);
  });
});

describe.skipIf(lacks('redis-server'))('traces of two replicas', () => {
  it('are one: who follows, and the stream that the leader gives it', async () => {
    const collector = await startCollector();
    const cluster = await startReplicas({
      count: 2,
      env: () => environment(collector),
      upstream: { bytesPerSecond: 2_000_000 },
      proxy: { host: 'docker.io' },
    });
    cleanup.push(cluster);
    const blob = blobOf(4_000_000, 'followed');
    const path = `library/app/blobs/${blob.digest}`;
    cluster.upstream.addBlob('library/app', blob);
    const first = getTraced(cluster.replica(0).v2(path));
    await cluster.upstream.until(() => cluster.upstream.bytesSent({ path: `/v2/${path}` }) > 0);
    const second = await getTraced(cluster.replica(1).v2(path));
    const leading = named(await traceOf(collector, (await first).traceId, ['transfer']), 'transfer');
    expect(leading.attributes).toMatchObject({ 'cistern.role': 'lead' });
    const spans = await traceOf(collector, second.traceId, ['GET blob', 'transfer', 'peer stream']);
    const following = named(spans, 'transfer');
    expect(following.attributes).toMatchObject({ 'cistern.role': 'follow' });
    const stream = named(spans, 'peer stream');
    expect(stream).toMatchObject({ parent: following.spanId, attributes: { 'cistern.bytes': blob.size } });
    const sender = 'service.instance.id';
    expect(stream.resource[sender]).toBe(leading.resource[sender]);
    expect(stream.resource[sender]).not.toBe(following.resource[sender]);
  });
});
