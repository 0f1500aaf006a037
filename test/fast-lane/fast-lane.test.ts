import { Agent, get } from 'node:https';
import { finished } from 'node:stream/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeOwnCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { runCistern } from '../parts/cistern.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, type Mirror, startMirror } from '../parts/mirror.js';
import { dial } from '../hostile/raw.js';
import { answersIn, converse, repeated, request } from './conversation.js';

const image = imageOf({ layers: [randomLayer(100, 'lane one')] });
const moved = imageOf({ layers: [randomLayer(100, 'lane two')] });
const wanted = request('/v2/team/app/manifests/v1', ['User-Agent: lane']);

async function withImage(options: Parameters<typeof startMirror>[0] = {}): Promise<Mirror> {
  const mirror = await startMirror(options);
  mirror.upstream.addImage('team/app', 'v1', image);
  return mirror;
}

/** The digests of the answers to so many requests on one connection. */
async function digests({ cistern }: Mirror, times: number): Promise<(string | undefined)[]> {
  const received = await converse(cistern.url, repeated(wanted, times));
  const answers =
    answersIn(
      received,
      Array.from({ length: times }, () => 'GET'),
    ) ?? [];
  return answers.map((answer) => /Docker-Content-Digest: (.*)\r/.exec(answer)?.[1]);
}

it('answers that are given again are counted and logged as the first', async () => {
  await using mirror = await withImage();
  await digests(mirror, 50);
  const labels = { handler: 'manifest' };
  const of = (name: string): Promise<number> => metric(mirror.cistern, name, labels);
  expect(await of('registry_http_requests_total')).toBe(50);
  expect(await of('registry_http_request_duration_seconds_count')).toBe(50);
  expect(await of('registry_http_in_flight_requests')).toBe(0);
  const type = { type: 'manifest' };
  expect(await metric(mirror.cistern, 'cistern_answers_total', type)).toBe(50);
  expect(await metric(mirror.cistern, 'registry_proxy_hits_total', type)).toBe(49);
  const bytes = 50 * image.manifest.size;
  expect(await metric(mirror.cistern, 'registry_proxy_pushed_bytes_total', type)).toBe(bytes);
  const lines = () => mirror.cistern.logRecords().filter(({ msg }) => msg === 'response completed');
  await expect.poll(() => lines().length).toBe(50);
  expect(new Set(lines().map((line) => line['http.request.id'])).size).toBe(50);
  const told = (line: object): unknown =>
    Object.entries({ ...line, 'http.response.duration': '', 'http.request.id': '', time: '' });
  const [, second, ...later] = lines();
  for (const line of later) expect(told(line)).toEqual(told(second ?? {}));
});

it('a tag that has moved is answered anew, at once where somebody asked for it', async () => {
  await using mirror = await withImage({ proxy: { freshness: '1h' } });
  expect(new Set(await digests(mirror, 20))).toEqual(new Set([image.manifest.digest]));
  mirror.upstream.addImage('team/app', 'v1', moved);
  expect(new Set(await digests(mirror, 20))).toEqual(new Set([image.manifest.digest]));
  const { configFile } = mirror.cistern;
  expect(await runCistern(['refresh', 'team/app:v1', '--config', configFile])).toMatchObject({ code: 0 });
  expect(new Set(await digests(mirror, 20))).toEqual(new Set([moved.manifest.digest]));
});

it('within the freshness nobody is asked, and after it the upstream is, however often a tag is asked for', async () => {
  await using mirror = await withImage({ proxy: { freshness: '1s' } });
  await digests(mirror, 5);
  mirror.upstream.addImage('team/app', 'v1', moved);
  await expect.poll(() => digests(mirror, 20).then((all) => all.at(-1))).toBe(moved.manifest.digest);
});

it.skipIf(lacks('openssl'))('over TLS answers are given again, too', async () => {
  await using folder = await temporaryFolder();
  const tls = await makeOwnCertificate(folder.path, 'mirror');
  await using mirror = await withImage({ config: { http: { tls } } });
  const blob = blobOf(100_000, 'lane tls');
  mirror.upstream.addBlob('team/app', blob);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ask = async (): Promise<Buffer> => {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const url = mirror.url(`team/app/blobs/${blob.digest}`);
    get(url, { agent, rejectUnauthorized: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      finished(response).then(() => resolve(Buffer.concat(chunks)), reject);
    }).once('error', reject);
    return await promise;
  };
  const began = performance.now();
  for (let times = 0; times < 100; times += 1) expect((await ask()).equals(blob.bytes)).toBe(true);
  const seconds = Math.ceil((performance.now() - began) / 1000);
  expect(await metric(mirror.cistern, 'cistern_answers_total', { type: 'blob' })).toBe(100);
  // Only an answer that is built anew looks the blob up: the first ones, and one for each second.
  expect(await metric(mirror.cistern, 'registry_storage_cache_requests_total')).toBeLessThan(20 + seconds);
});

describe('each answer is made anew', () => {
  it('where clients log in: what one has got is not given to another', async () => {
    await using folder = await temporaryFolder();
    const path = await writeHtpasswd({ ann: 'right' }, folder.path);
    await using mirror = await withImage({ config: { auth: { htpasswd: { realm: 'mirror', path } } } });
    await expect.poll(() => mirror.cistern.log()).toContain('it matters who asks');
    const login = `Authorization: Basic ${Buffer.from('ann:right').toString('base64')}`;
    const allowed = wanted.replace('\r\n\r\n', `\r\n${login}\r\n\r\n`);
    const received = await converse(mirror.cistern.url, [...repeated(allowed, 5), ...repeated(wanted, 5)]);
    const answers =
      answersIn(
        received,
        Array.from({ length: 10 }, () => 'GET'),
      ) ?? [];
    expect(answers.map((answer) => answer.slice('HTTP/1.1 '.length, 12)).join(' ')).toBe(
      '200 200 200 200 200 401 401 401 401 401',
    );
  });

  it('where an address may ask so often only', async () => {
    await using mirror = await withImage({ config: { http: { limits: { rate: 1, burst: 10 } } } });
    await expect.poll(() => mirror.cistern.log()).toContain('requests of each address are counted');
    const received = await converse(mirror.cistern.url, repeated(wanted, 30));
    expect(received).toContain('HTTP/1.1 503 ');
  });

  it('where an upstream has rules of access', async () => {
    const access = [{ networks: ['127.0.0.0/8'], repositories: ['team/*'] }];
    await using mirror = await withImage({ proxy: { access } });
    await expect.poll(() => mirror.cistern.log()).toContain('it matters who asks');
  });
});

it('a mirror that ends answers in the lane’s place, and closes connections when it has waited', async () => {
  await using mirror = await withImage({ config: { http: { draindelay: '2s' } } });
  using idle = await dial(mirror.cistern.url);
  for (let times = 0; times < 5; times += 1) {
    const { bytesRead } = idle.socket;
    idle.socket.write(wanted);
    await expect.poll(() => idle.socket.bytesRead).toBeGreaterThan(bytesRead);
  }
  mirror.cistern.kill('SIGTERM');
  await expect.poll(() => mirror.cistern.log()).toContain('draining');
  expect(await digests(mirror, 5)).toHaveLength(5);
  expect((await idle.ended).split('HTTP/1.1 200 OK')).toHaveLength(6);
  expect(await mirror.cistern.exited).toMatchObject({ code: 0 });
});

it('an idle connection is closed in time, also when the lane had its last request', async () => {
  await using mirror = await withImage({ config: { http: { limits: { idletimeout: '1s' } } } });
  using idle = await dial(mirror.cistern.url);
  for (let times = 0; times < 5; times += 1) {
    const { bytesRead } = idle.socket;
    idle.socket.write(wanted);
    await expect.poll(() => idle.socket.bytesRead).toBeGreaterThan(bytesRead);
  }
  expect((await idle.ended).split('HTTP/1.1 200 OK')).toHaveLength(6);
});
