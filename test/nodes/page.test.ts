import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';

const upstream = 'http://127.0.0.1:9';

function proxy(changes: Settings = {}, ghcr: Settings = {}): Settings {
  const upstreams = [
    { host: 'ghcr.io', url: upstream, ...ghcr },
    { host: 'registry.local:5000', url: upstream },
  ];
  return { remoteurl: upstream, upstreams, ...changes };
}

interface Shown {
  readonly status: number;
  readonly type: string | undefined;
  readonly body: string;
}

/** fetch would not send another Host. */
async function ask(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Shown> {
  const { promise, resolve, reject } = Promise.withResolvers<Shown>();
  const sent = httpRequest(url, { headers, agent: false }, (response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => (body += chunk));
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'], body }),
    );
  });
  sent.once('error', reject);
  sent.end();
  return await promise;
}

async function hosts(url: string, headers?: Readonly<Record<string, string>>): Promise<string[] | number> {
  const { status, body } = await ask(`${url}/nodes.json`, headers);
  if (status !== 200) return status;
  return (JSON.parse(body) as { upstreams: { host: string }[] }).upstreams.map(({ host }) => host);
}

const basic = (user: string) => ({ authorization: `Basic ${btoa(`${user}:${user}`)}` });
const all = ['docker.io', 'ghcr.io', 'registry.local:5000'];

describe('the page for nodes', () => {
  let open: Cistern;
  beforeAll(async () => {
    open = await startCistern({ config: { proxy: proxy() } });
  });
  afterAll(() => open[Symbol.asyncDispose]());

  it("has the clients' files, with the address at which it was asked", async () => {
    expect(await hosts(open.url)).toEqual(all);
    const asked = { host: 'Mirror.example.com' };
    const text = await ask(`${open.url}/nodes`, asked);
    expect(text).toMatchObject({ status: 200, type: 'text/plain; charset=utf-8' });
    expect(text.body).toContain('cistern configure-node --mirror http://mirror.example.com\n');
    expect(text.body).toContain('[host."http://mirror.example.com"]');
    expect(text.body).toContain('location = "mirror.example.com/registry.local:5000"');
    const page = await ask(`${open.url}/nodes`, { ...asked, accept: 'text/html,*/*' });
    expect(page).toMatchObject({ status: 200, type: 'text/html; charset=utf-8' });
    expect(page.body).toContain('[host.&quot;http://mirror.example.com&quot;]');
    expect(open.logRecords().filter(({ level }) => level === 'error')).toEqual([]);
  });

  it('repeats no host that is none', async () => {
    for (const host of ['a"b', '<b>', 'a b', 'user@host', '../x']) {
      const { status, body } = await ask(`${open.url}/nodes`, { host, accept: 'text/html' });
      expect({ host, status, body }).toEqual({ host, status: 400, body: 'the Host header is not a host\n' });
    }
  });

  it('believes a proxy that is trusted, and nobody else', async () => {
    const forwarded = {
      host: 'inner',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'a, mirror.example.com',
    };
    const addressAt = async (url: string): Promise<unknown> =>
      (JSON.parse((await ask(`${url}/nodes.json`, forwarded)).body) as { mirror: unknown }).mirror;
    expect(await addressAt(open.url)).toBe('http://inner');
    await using behind = await startCistern({
      config: { proxy: proxy(), http: { trustedproxies: ['127.0.0.0/8'] } },
    });
    expect(await addressAt(behind.url)).toBe('https://mirror.example.com');
    const odd = { ...forwarded, 'x-forwarded-proto': 'javascript' };
    expect(await ask(`${behind.url}/nodes`, odd)).toMatchObject({ status: 400 });
  });

  it('names an upstream only to who may pull something of it', async () => {
    await using folder = await temporaryFolder();
    const path = await writeHtpasswd({ alice: 'alice', bob: 'bob' }, folder.path);
    const access = [{ users: ['alice'], repositories: ['team/*'] }];
    await using cistern = await startCistern({
      config: { proxy: proxy({}, { access }), auth: { htpasswd: { realm: 'mirror', path } } },
    });
    expect(await hosts(cistern.url)).toBe(401);
    expect(await hosts(cistern.url, { authorization: `Basic ${btoa('alice:wrong')}` })).toBe(401);
    expect(await hosts(cistern.url, basic('alice'))).toEqual(all);
    expect(await hosts(cistern.url, basic('bob'))).toEqual(['docker.io', 'registry.local:5000']);
    const refused = await ask(`${cistern.url}/nodes`);
    expect(refused.status).toBe(401);
    expect(refused.body).not.toContain('registry.local');
  });

  it('names no upstream that is for other networks, or that says itself who may pull', async () => {
    const elsewhere = [{ anonymous: true, networks: ['192.0.2.0/24'] }];
    await using grants = await startCistern({ config: { proxy: proxy({}, { access: elsewhere }) } });
    expect(await hosts(grants.url)).toEqual(['docker.io', 'registry.local:5000']);
    await using verified = await startCistern({ config: { proxy: proxy({}, { verifycaller: true }) } });
    expect(await hosts(verified.url)).toEqual(['docker.io', 'registry.local:5000']);
  });

  it('is held to the same rate as pulls', async () => {
    await using cistern = await startCistern({
      config: { proxy: proxy(), http: { limits: { rate: 1, burst: 2 } } },
    });
    const statuses = [];
    for (let count = 0; count < 4; count += 1) statuses.push((await ask(`${cistern.url}/nodes`)).status);
    expect(statuses).toContain(503);
    expect(statuses[0]).toBe(200);
  });
});
