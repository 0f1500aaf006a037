import { X509Certificate } from 'node:crypto';
import {
  appendFile,
  mkdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { Agent, get, type RequestOptions } from 'node:https';
import { basename, dirname, join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { hash } from 'bcryptjs';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { settleMs } from '../../src/config/watched-file.js';
import { basicOf, password, startPrivateRegistry, user } from '../credentials/private-registry.js';
import { type CertificateFiles, makeOwnCertificate, putInPlace } from '../parts/certificates.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { metric, startMirror } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { freePort } from '../parts/ports.js';
import { startRedis } from '../parts/redis.js';

interface Answered {
  readonly status: number | undefined;
  /** The common name on the certificate. */
  readonly by: string | undefined;
}

function ask(url: string, options: RequestOptions): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>();
  get(url, { rejectUnauthorized: false, ...options }, (response) => {
    const by = (response.socket as TLSSocket).getPeerCertificate().subject?.CN;
    response.resume();
    response.once('end', () => resolve({ status: response.statusCode, by: String(by) }));
    response.once('error', reject);
  }).once('error', reject);
  return promise;
}

/** Sends requests without a pause, several at once, until it is stopped. `stop` returns the failures. */
function underLoad(request: () => Promise<number | undefined>): {
  stop(): Promise<unknown[]>;
  count(): number;
} {
  const wrong: unknown[] = [];
  const stopping = new AbortController();
  let count = 0;
  const work = Array.from({ length: 4 }, async () => {
    while (!stopping.signal.aborted) {
      const status = await request().catch((error: unknown) => error);
      count += 1;
      if (status !== 200) wrong.push(status);
    }
  });
  return {
    count: () => count,
    stop: async () => {
      stopping.abort();
      await Promise.all(work);
      return wrong;
    },
  };
}

/**
 * Writes a file in place in several steps, and sends a request after each step. Returns whether all steps were quick
 * enough that the mirror must not use an unfinished file. The mirror uses a file that has not changed for `settleMs`,
 * so if a step takes longer on a busy machine, the mirror rightly uses the result of the step before.
 */
async function writeInSteps(
  path: string,
  steps: readonly string[],
  request: () => Promise<unknown>,
): Promise<boolean> {
  let unsettled = true;
  let changed = Infinity;
  for (const text of steps) {
    await writeFile(path, text);
    unsettled &&= Date.now() - changed < settleMs;
    const { ctimeMs, mtimeMs } = await stat(path);
    changed = Math.floor(Math.max(ctimeMs, mtimeMs)); // as the mirror reads it
    await request();
  }
  return unsettled;
}

/** Repeats rounds of writing under load until one was quick enough to count. Returns the failures of that round. */
async function failuresWhileWriting(
  request: () => Promise<number | undefined>,
  round: (count: number) => Promise<boolean>,
): Promise<unknown[]> {
  const signal = patience();
  for (let count = 0; ; count += 1) {
    signal.throwIfAborted();
    const load = underLoad(request);
    const counts = await round(count).finally(() => load.stop());
    const failed = await load.stop();
    if (counts) return failed;
  }
}

/** A pair behind links, as Kubernetes mounts secrets: the files are links into `..data`, and that is one as well. */
async function mounted(folder: string): Promise<CertificateFiles> {
  const { certificate, key } = await makeOwnCertificate(folder, 'first');
  await mkdir(join(folder, '..first'));
  await rename(certificate, join(folder, '..first', 'tls.crt'));
  await rename(key, join(folder, '..first', 'tls.key'));
  await symlink('..first', join(folder, '..data'));
  for (const name of ['tls.crt', 'tls.key']) await symlink(join('..data', name), join(folder, name));
  return { certificate: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
}

describe.skipIf(lacks('openssl'))('a certificate and its key', () => {
  it('are replaced under load, and no request fails', async () => {
    await using folder = await temporaryFolder();
    const pair = await makeOwnCertificate(folder.path, 'first');
    await using mirror = await startMirror({ config: { http: { tls: pair } } });
    mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(1_000, 'tls')] }));
    const url = mirror.url('app/manifests/v1');
    const kept = new Agent({ keepAlive: true, maxSockets: 2 });
    const load = underLoad(async () => {
      const [answer] = await Promise.all([ask(url, { agent: false }), ask(url, { agent: kept })]);
      return answer.status;
    });
    for (const name of ['second', 'third']) {
      await putInPlace(await makeOwnCertificate(folder.path, name), pair);
      await expect.poll(() => ask(url, { agent: false })).toEqual({ status: 200, by: name });
      const { validToDate } = new X509Certificate(await readFile(pair.certificate));
      await expect
        .poll(() => metric(mirror.cistern, 'cistern_tls_certificate_expiry_timestamp_seconds'))
        .toBe(validToDate.getTime() / 1000);
    }
    expect(await load.stop()).toEqual([]);
    expect(load.count()).toBeGreaterThan(20);
    expect(await ask(url, { agent: kept }), 'open connections stay').toEqual({ status: 200, by: 'first' });
    kept.destroy();
    expect(mirror.cistern.log()).not.toContain('cannot be used');
  });

  it.each([
    [
      'in place, in several steps',
      async (from: CertificateFiles, to: CertificateFiles) => {
        for (const kind of ['certificate', 'key'] as const) {
          const text = await readFile(from[kind], 'utf8');
          await truncate(to[kind]);
          await appendFile(to[kind], text.slice(0, 100));
          await appendFile(to[kind], text.slice(100));
        }
      },
    ],
    [
      'by another link, as Kubernetes does',
      async (from: CertificateFiles, to: CertificateFiles) => {
        const folder = dirname(to.key);
        const data = join(folder, `..${basename(from.key)}`);
        await mkdir(data);
        for (const kind of ['certificate', 'key'] as const) {
          await rename(from[kind], join(data, basename(to[kind])));
        }
        await symlink(data, join(folder, '..data_tmp'));
        await rename(join(folder, '..data_tmp'), join(folder, '..data'));
      },
    ],
  ])('are replaced under load %s, and no request fails', async (_, replace) => {
    await using folder = await temporaryFolder();
    const pair = await mounted(folder.path);
    await using mirror = await startMirror({ config: { http: { tls: pair } } });
    mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(1_000, 'tls')] }));
    const url = mirror.url('app/manifests/v1');
    const load = underLoad(async () => (await ask(url, { agent: false })).status);
    for (const name of ['second', 'third']) {
      await replace(await makeOwnCertificate(folder.path, name), pair);
      await expect.poll(() => ask(url, { agent: false })).toEqual({ status: 200, by: name });
    }
    expect(await load.stop()).toEqual([]);
  });

  it('that are broken are told once, and those before them stay until good ones come', async () => {
    await using folder = await temporaryFolder();
    const pair = await makeOwnCertificate(folder.path, 'first');
    const key = await readFile(pair.key, 'utf8');
    await using mirror = await startMirror({ config: { http: { tls: pair } } });
    const lines = () => mirror.cistern.log().split('the one before it stays').length - 1;
    const other = await makeOwnCertificate(folder.path, 'other');
    await rename(other.key, pair.key); // of another certificate
    await expect.poll(lines).toBe(1);
    await writeFile(pair.certificate, 'no certificate');
    await expect.poll(lines).toBe(2);
    expect(await ask(mirror.url(''), { agent: false })).toEqual({ status: 200, by: 'first' });
    await putInPlace(await makeOwnCertificate(folder.path, 'second'), pair);
    await expect.poll(() => ask(mirror.url(''), { agent: false })).toEqual({ status: 200, by: 'second' });
    expect(lines()).toBe(2);
    for (const line of key.split('\n').filter((each) => each.length > 20 && !each.startsWith('-'))) {
      expect(mirror.cistern.log()).not.toContain(line);
    }
  });
});

describe('an htpasswd file', () => {
  it('is replaced under load, and no request of a user who stays fails', async () => {
    await using scene = await startWithUsers();
    const { as, folder, path, line } = scene;
    const load = underLoad(() => as('stays', 'one'));
    for (let round = 0; round < 5; round += 1) {
      const next = join(folder, 'next');
      await writeFile(next, (await line(`guest${round}`, 'two')) + (await line('stays', 'one')));
      await rename(next, path);
      expect(await as(`guest${round}`, 'two')).toBe(200);
      expect(await as(`guest${round - 1}`, 'two'), 'the one before is out').toBe(401);
    }
    expect(await load.stop()).toEqual([]);
    expect(load.count()).toBeGreaterThan(20);
  });

  it('is written in place under load, in several steps, and no request of a user who stays fails', async () => {
    await using scene = await startWithUsers();
    const { as, path, line } = scene;
    const stays = await line('stays', 'one');
    const ask = () => as('stays', 'one');
    const failed = await failuresWhileWriting(ask, async (count) => {
      const guest = await line(`guest${count}`, 'two');
      const inSteps = await writeInSteps(path, ['', guest, guest + stays], ask);
      await expect.poll(() => as(`guest${count}`, 'two')).toBe(200);
      await expect.poll(ask).toBe(200);
      return inSteps;
    });
    expect(failed).toEqual([]);
    await writeFile(path, await line('ann', 'two'));
    await expect.poll(ask).toBe(401);
    await writeFile(path, '');
    await expect.poll(() => as('ann', 'two')).toBe(401);
  });

  it('that is gone is told once, and its users stay', async () => {
    await using scene = await startWithUsers();
    const { as, cistern, path } = scene;
    await rm(path);
    await expect
      .poll(async () => {
        expect(await as('stays', 'one')).toBe(200);
        return cistern.log();
      })
      .toContain('what it had stays');
    await as('stays', 'one');
    expect(cistern.log().split('what it had stays')).toHaveLength(2);
  });
});

interface Users extends AsyncDisposable {
  readonly cistern: Cistern;
  readonly folder: string;
  /** Of the htpasswd file, which has the user `stays` with the password `one`. */
  readonly path: string;
  line(name: string, secret: string): Promise<string>;
  /** The status of a pull. */
  as(name: string, secret: string): Promise<number>;
}

async function startWithUsers(): Promise<Users> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const path = join(folder.path, 'htpasswd');
  const line = async (name: string, secret: string) => `${name}:${await hash(secret, 4)}\n`;
  await writeFile(path, await line('stays', 'one'));
  const mirror = cleanup.use(
    await startMirror({ config: { auth: { htpasswd: { realm: 'mirror', path } } } }),
  );
  mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(1_000, 'users')] }));
  const as = async (name: string, secret: string): Promise<number> => {
    const headers = { authorization: basicOf(name, secret) };
    const answer = await fetch(mirror.url('app/manifests/v1'), { headers });
    await answer.arrayBuffer();
    return answer.status;
  };
  expect(await as('stays', 'one')).toBe(200);
  const owned = cleanup.move();
  return {
    cistern: mirror.cistern,
    folder: folder.path,
    path,
    line,
    as,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe.skipIf(lacks('docker-registry'))("the file of an upstream's password", () => {
  it('is written in place under load, in several steps, and no request is refused there', async () => {
    await using folder = await temporaryFolder();
    await using registry = await startPrivateRegistry('htpasswd');
    await registry.push('app', 'v1', imageOf({ layers: [randomLayer(1_000, 'upstream')] }));
    const passwordfile = join(folder.path, 'password');
    await writeFile(passwordfile, password);
    await using cistern = await startCistern({
      config: { proxy: { remoteurl: registry.url, username: user, passwordfile, freshness: '1ms' } },
    });
    // Asked upstream each time; what is stored would be served with a warning.
    const pull = async (): Promise<number | undefined> => {
      const answer = await fetch(`${cistern.url}/v2/app/manifests/v1`);
      await answer.arrayBuffer();
      return answer.headers.get('warning') === null ? answer.status : undefined;
    };
    expect(await pull()).toBe(200);
    const failed = await failuresWhileWriting(pull, async () => {
      const inSteps = await writeInSteps(passwordfile, ['', password.slice(0, 5), `${password}\n`], pull);
      await expect.poll(pull).toBe(200);
      return inSteps;
    });
    expect(failed).toEqual([]);
  });
});

describe.skipIf(lacks('redis-server'))('the password of Redis', () => {
  it('is read from its file again before each connection', async () => {
    await using folder = await temporaryFolder();
    const passwordfile = join(folder.path, 'password');
    await writeFile(passwordfile, 'first-passw0rd\n');
    await using redis = await startRedis({ args: ['--requirepass', 'first-passw0rd'] });
    await using mirror = await startMirror({
      config: {
        redis: { addr: redis.addr, passwordfile, readtimeout: '2s' },
        cluster: { addr: `127.0.0.1:${await freePort()}` },
        storage: { cache: { blobdescriptor: 'redis' } },
      },
    });
    const { cistern } = mirror;
    const usable = async () =>
      (await metric(cistern, 'cistern_redis_usable', { connection: 'data' })) +
      (await metric(cistern, 'cistern_redis_usable', { connection: 'locks' }));
    await expect.poll(usable).toBe(2);
    const client = new Redis(`redis://:first-passw0rd@${redis.addr}`);
    onTestFinished(() => client.disconnect());
    const mirrors = async () => String(await client.client('LIST')).split(' name=cistern-').length - 1;
    await expect.poll(mirrors).toBe(2);
    await client.config('SET', 'requirepass', 'second-passw0rd');
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await expect.poll(usable).toBe(0);
    await writeFile(passwordfile, 'second-passw0rd\n');
    await expect.poll(usable).toBe(2);
    await expect.poll(mirrors).toBe(2);
    await expect.poll(() => cistern.log()).toContain('redis is used again');
    expect(cistern.log()).not.toMatch(/first-passw0rd|second-passw0rd/);
  });
});
