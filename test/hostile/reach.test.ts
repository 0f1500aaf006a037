import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Agent } from 'undici';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Reach, type ReachOptions } from '../../src/upstream/reach.js';
import { clientOf, patient, repository, serve, tag } from '../upstream/scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');
const refused = { code: 'redirect-refused', kind: 'trouble' };

/** GET by the connections that a Reach allows; the status. */
async function ask(
  url: string,
  options: Partial<ReachOptions>,
  before: readonly string[] = [],
): Promise<number> {
  const reach = new Reach({
    host: 'registry.test',
    url: new URL('https://registry.test'),
    listed: [],
    ...options,
  });
  const agent = new Agent({ connect: reach.connector({ timeout: 30_000 }) });
  onTestFinished(() => agent.destroy());
  for (const first of before)
    await (await agent.request({ origin: first, path: '/', method: 'GET' })).body.dump();
  const { statusCode, body } = await agent.request({ origin: url, path: '/', method: 'GET' });
  await body.dump();
  return statusCode;
}

/** A name server that gives these, one after the other. */
function resolving(...answers: readonly (readonly string[])[]): LookupFunction & { asked: () => number } {
  let asked = 0;
  const resolve: LookupFunction = (_, { all }, callback) => {
    const addresses = (answers[Math.min(asked, answers.length - 1)] ?? []).map((address): LookupAddress => ({
      address,
      family: address.includes(':') ? 6 : 4,
    }));
    asked += 1;
    if (all === true) callback(null, addresses);
    else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
  };
  return Object.assign(resolve, { asked: () => asked });
}

describe('an upstream that is outside leads to no inner address', () => {
  it('given as an address, in any spelling', async () => {
    const inside = await serve((_, response) => response.end());
    for (const host of ['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '0.0.0.0']) {
      await expect(ask(`http://${host}:${inside.port}`, {})).rejects.toMatchObject(refused);
    }
    for (const host of ['169.254.169.254', '10.0.0.1', '[fd00::1]', '[fe80::1]']) {
      await expect(ask(`http://${host}`, {})).rejects.toMatchObject(refused);
    }
    expect(inside.connections()).toBe(0);
  });

  it('nor by a name, whatever else the name means, and the error does not tell the address', async () => {
    const inside = await serve((_, response) => response.end());
    for (const addresses of [['127.0.0.1'], ['192.0.2.1', '127.0.0.1'], ['::1', '2001:db8::1']]) {
      const asked = ask(`http://cdn.test:${inside.port}`, { resolve: resolving(addresses) });
      await expect(asked).rejects.toMatchObject(refused);
      await expect(asked).rejects.toThrow(/cdn\.test.*"redirects" can allow it/);
      await expect(asked).rejects.not.toThrow('127.0.0.1');
    }
    expect(inside.connections()).toBe(0);
  });

  it('what counts is the look-up that the connection is made from, and there is no second', async () => {
    const inside = await serve((_, response) => response.end());
    const resolve = resolving(['127.0.0.1'], ['192.0.2.1']);
    await expect(ask(`http://cdn.test:${inside.port}`, { resolve })).rejects.toMatchObject(refused);
    expect(resolve.asked()).toBe(1);
    expect(inside.connections()).toBe(0);
  });

  it('unless its host is listed, with or without the port', async () => {
    const inside = await serve((_, response) => response.end());
    const url = `http://localhost:${inside.port}`;
    for (const listed of ['localhost', `LOCALHOST:${inside.port}`]) {
      expect(await ask(url, { listed: [listed] })).toBe(200);
    }
    await expect(ask(url, { listed: ['localhost:1', 'cdn.test'] })).rejects.toMatchObject(refused);
  });
});

describe('an upstream that is inside', () => {
  it('leads to its like, and no further in', async () => {
    const storage = await serve((_, response) => response.end());
    const registry = await serve((_, response) => response.end());
    const options = { url: new URL(registry.url) };
    expect(await ask(storage.url, options, [registry.url])).toBe(200);
    expect(await ask(`http://localhost:${storage.port}`, options, [registry.url])).toBe(200);
    await expect(ask('http://169.254.169.254', options, [registry.url])).rejects.toMatchObject(refused);
  });

  it('is so by the address where it was reached, when it has a name', async () => {
    const storage = await serve((_, response) => response.end());
    const registry = await serve((_, response) => response.end());
    const url = `http://localhost:${registry.port}`;
    await expect(ask(storage.url, { url: new URL(url) })).rejects.toMatchObject(refused);
    expect(await ask(storage.url, { url: new URL(url) }, [url])).toBe(200);
  });
});

describe('a client of an upstream', () => {
  it('follows no redirect to the metadata service, and says why', async () => {
    const metadata = 'http://169.254.169.254/latest/meta-data/';
    const registry = await serve((_, response) => response.writeHead(307, { location: metadata }).end());
    const { upstream, told } = clientOf(registry.url);
    await expect(upstream.fetchManifest(name, latest, patient)).rejects.toMatchObject(refused);
    expect(told.requests.at(-1)?.outcome).toBe('redirect-refused');
    expect(upstream.breakerState()).toBe('closed');
  });

  it('through a proxy, addresses are refused all the same', async () => {
    const asked: string[] = [];
    const proxy = await serve((request, response) => {
      asked.push(request.url);
      response.writeHead(307, { location: 'http://169.254.169.254/' }).end();
    });
    const { upstream } = clientOf('http://registry.test', { proxy: { http: proxy.url } });
    await expect(upstream.fetchManifest(name, latest, patient)).rejects.toMatchObject(refused);
    expect(asked.filter((url) => url.includes('169.254'))).toEqual([]);
  });
});
