import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicOf } from '../credentials/private-registry.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { blobOf, metric, type Mirror, startMirror } from '../parts/mirror.js';
import { dial, get, say, type RawConnection } from './raw.js';

/** Larger than the kernel's buffers for a client that reads nothing. */
const large = blobOf(24 * 1024 * 1024, 'shares');
const path = `/v2/team/app/blobs/${large.digest}`;
const slots = 4;

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

interface Sender {
  readonly localAddress?: string;
  readonly headers?: readonly string[];
}

const from = (localAddress: string, headers: readonly string[] = []): Sender => ({ localAddress, headers });
const login = (user: string): string => `Authorization: ${basicOf(user, 'secret')}`;
const forwarded = (address: string): string => `X-Forwarded-For: ${address}`;

/** Sends a request for the blob and reads nothing of the answer. */
async function askWithoutReading(mirror: Mirror, sender: Sender): Promise<RawConnection> {
  const connection = await dial(mirror.cistern.url, sender.localAddress);
  connection.socket.pause();
  connection.socket.write(get(path, sender.headers));
  return connection;
}

/** Requests that the mirror has received: it answers them now, or has answered them. */
async function received({ cistern }: Mirror): Promise<number> {
  const running = await metric(cistern, 'registry_http_in_flight_requests');
  return running + (await metric(cistern, 'registry_http_requests_total'));
}

describe('clients that read nothing of their answers', () => {
  it.each<[string, object, (index: number) => Sender, Sender]>([
    ['from one address', {}, () => from('127.0.0.2'), from('127.0.0.3')],
    [
      'from one address behind a trusted proxy',
      { http: { trustedproxies: ['127.0.0.1'] } },
      () => ({ headers: [forwarded('198.51.100.1')] }),
      { headers: [forwarded('198.51.100.2')] },
    ],
    [
      'with one user name, from many addresses',
      { auth: {} },
      (index) => from(`127.0.1.${index + 1}`, [login('ann')]),
      from('127.0.2.1', [login('bob')]),
    ],
  ])('%s do not take the request slots of another client', async (_, config, hostile, honest) => {
    const htpasswd = await writeHtpasswd({ ann: 'secret', bob: 'secret' }, folder.path);
    const auth = 'auth' in config ? { auth: { htpasswd: { realm: 'r', path: htpasswd } } } : {};
    const http = { ...('http' in config ? (config.http as object) : {}), limits: { requests: slots } };
    await using mirror = await startMirror({ config: { ...auth, http } });
    mirror.upstream.addBlob('team/app', large);
    const ask = () => say(mirror.cistern.url, get(path, honest.headers), honest.localAddress);
    expect((await ask()).length).toBeGreaterThan(large.bytes.byteLength);
    const running = () => metric(mirror.cistern, 'registry_http_in_flight_requests');
    await expect.poll(running).toBe(0);
    const before = await received(mirror);
    using connections = new DisposableStack();
    for (let index = 0; index < slots; index += 1) {
      connections.use(await askWithoutReading(mirror, hostile(index)));
    }
    await expect.poll(() => received(mirror)).toBe(before + slots);
    const answer = await ask();
    expect(answer.slice(0, 15)).toBe('HTTP/1.1 200 OK');
    expect(answer.length).toBeGreaterThan(large.bytes.byteLength);
    await expect.poll(running).toBe(slots / 2);
  });
});
