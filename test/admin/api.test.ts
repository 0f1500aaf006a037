import 'reflect-metadata';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { parse } from 'yaml';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AdminAccess, adminKey } from '../../src/admin/access.js';
import {
  AdminError,
  type Administration,
  type AdminEvent,
  type AdminTask,
  type ListedJob,
} from '../../src/admin/admin.js';
import { AdminModule } from '../../src/admin/admin.module.js';
import { RemoteAdministration } from '../../src/admin/remote.js';
import type { RecordStore } from '../../src/storage/storage.js';

const secret = 'the secret in the storage';
const { token } = adminKey(secret);

/** A mirror that does what a test says. */
class Scripted implements Administration {
  readonly asked: AdminTask[] = [];
  readonly listed: ListedJob[] = [{ name: 'expire', schedule: '10m', next: undefined, run: undefined }];
  events: (signal: AbortSignal) => AsyncIterable<AdminEvent> = () => told();

  jobs(): Promise<readonly ListedJob[]> {
    return Promise.resolve(this.listed);
  }

  run(task: AdminTask, signal: AbortSignal): AsyncIterable<AdminEvent> {
    this.asked.push(task);
    return this.events(signal);
  }
}

async function* told(...events: AdminEvent[]): AsyncGenerator<AdminEvent> {
  yield* await Promise.resolve(events);
  yield { type: 'result', summary: { blobs: 1 } };
}

async function collect(events: AsyncIterable<AdminEvent>): Promise<AdminEvent[]> {
  const all: AdminEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const tasks: AdminTask[] = [
  { task: 'images' },
  { task: 'gc', dryRun: true, untagged: false },
  { task: 'gc', dryRun: false, untagged: true },
  { task: 'verify', dryRun: false, image: undefined },
  { task: 'verify', dryRun: true, image: 'ghcr.io/o/i:1' },
  { task: 'prewarm', images: ['a', 'b@sha256:00'], platforms: ['linux/amd64', 'linux/arm/v7'] },
  { task: 'prewarm', images: ['a'], platforms: [] },
  { task: 'purge', dryRun: false, image: 'a:b', all: true },
  { task: 'refresh', image: 'localhost:5000/x' },
  { task: 'run', job: 'expire', dryRun: true },
];

describe('the admin API', () => {
  let mirror: Scripted;
  let app: NestFastifyApplication;
  let port: number;
  let identity: Buffer | undefined;

  beforeEach(async () => {
    mirror = new Scripted();
    identity = Buffer.from(JSON.stringify({ id: 'id', secret, host: 'docker.io' }));
    const records = { readRecord: () => Promise.resolve(identity) } as unknown as RecordStore;
    const module = AdminModule.for(mirror, new AdminAccess(records));
    app = await NestFactory.create<NestFastifyApplication>(module, new FastifyAdapter(), {
      logger: false,
      bodyParser: false,
    });
    await app.listen(0, '127.0.0.1');
    port = (app.getHttpServer().address() as AddressInfo).port;
  });

  afterEach(() => app.close());

  const client = (given = token) => new RemoteAdministration({ host: '127.0.0.1', port }, given);
  const never = new AbortController().signal;
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${port}/admin/v1${path}`, init);
  const withToken = { headers: { authorization: `Bearer ${token}` } };

  it.each(tasks)('brings the task to the mirror as it was asked for: %j', async (task) => {
    mirror.events = () => told({ type: 'progress', doing: 'x', done: 1, total: undefined });
    await expect(collect(client().run(task, never))).resolves.toEqual([
      { type: 'progress', doing: 'x', done: 1 },
      { type: 'result', summary: { blobs: 1 } },
    ]);
    expect(mirror.asked).toEqual([task]);
  });

  it('lists jobs', async () => {
    await expect(client().jobs(never)).resolves.toEqual([{ name: 'expire', schedule: '10m' }]);
  });

  it.each<[string, Record<string, string>]>([
    ['no token', {}],
    ['another token', { authorization: `Bearer ${adminKey('another').token}` }],
    ['the secret itself', { authorization: `Bearer ${secret}` }],
    ['another scheme', { authorization: `Basic ${token}` }],
    ['the beginning of the token', { authorization: `Bearer ${token.slice(0, -1)}` }],
  ])('refuses %s', async (_, headers) => {
    const paths = ['/jobs', '/images'].map((path) => ask(path, { headers }));
    const works = ['/gc', '/purge?image=a', '/jobs/expire/runs'].map((path) =>
      ask(path, { method: 'POST', headers }),
    );
    for (const response of await Promise.all([...paths, ...works])) {
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toContain('Bearer');
      expect(await response.json()).toMatchObject({ error: { code: 'unauthorized' } });
    }
    expect(mirror.asked).toEqual([]);
  });

  it('refuses everybody while the storage has no identity', async () => {
    identity = undefined;
    expect((await ask('/jobs', withToken)).status).toBe(401);
  });

  it('tells why it refuses a task, and takes no part of it', async () => {
    const busy = new AdminError('busy', 'sweep is being done already');
    mirror.events = () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(busy) }) });
    await expect(collect(client().run({ task: 'images' }, never))).rejects.toMatchObject({
      code: 'busy',
      message: 'sweep is being done already',
    });
    expect((await ask('/gc', { ...withToken, method: 'POST' })).status).toBe(409);
  });

  it.each(['/gc?dryRun=maybe', '/purge', '/refresh', '/jobs/nonsense/runs'])(
    '%s makes no sense',
    async (path) => {
      const response = await ask(path, { ...withToken, method: 'POST' });
      expect([400, 404]).toContain(response.status);
      expect(mirror.asked).toEqual([]);
    },
  );

  it('ends the work when whoever asked has left', async () => {
    const ended = Promise.withResolvers<unknown>();
    mirror.events = async function* (signal) {
      signal.addEventListener('abort', () => ended.resolve(signal.reason));
      yield { type: 'progress', doing: 'x', done: 0, total: undefined };
      await ended.promise;
    };
    const leaving = new AbortController();
    const reading = collect(
      (async function* () {
        for await (const event of client().run({ task: 'images' }, leaving.signal)) {
          leaving.abort(new Error('Ctrl-C'));
          yield event;
        }
      })(),
    );
    await expect(reading).rejects.toThrow('Ctrl-C');
    await expect(ended.promise).resolves.toBeInstanceOf(Error);
  });

  it('shows that an answer has broken off', async () => {
    mirror.events = async function* () {
      yield { type: 'progress', doing: 'x', done: 0, total: undefined };
      throw await Promise.resolve(new Error('a fault of ours'));
    };
    await expect(collect(client().run({ task: 'images' }, never))).rejects.toMatchObject({
      code: 'unavailable',
    });
  });

  it('is found to be absent where nobody listens, and something else where somebody does', async () => {
    await expect(client().reachable(never)).resolves.toBe(true);
    await expect(client('wrong').reachable(never)).rejects.toMatchObject({ code: 'unauthorized' });
    await app.close();
    await expect(client().reachable(never)).resolves.toBe(false);
    const socket = new RemoteAdministration({ socketPath: '/nowhere/cistern.sock' }, token);
    await expect(socket.reachable(never)).resolves.toBe(false);
  });

  it('is what docs/openapi.yaml says', async () => {
    const page = await readFile(new URL('../../docs/openapi.yaml', import.meta.url), 'utf8');
    const served = await ask('/openapi.yaml');
    expect(served.headers.get('content-type')).toContain('application/yaml');
    expect(await served.text()).toBe(page);

    const { paths } = parse(page) as { paths: Record<string, Record<string, { parameters?: unknown[] }>> };
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map(
        (method) => `${method.toUpperCase()} /admin/v1${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
      ),
    );
    expect(described.toSorted()).toEqual(routesOf(app));
  });
});

/** `GET /admin/v1/jobs`, without what the server adds by itself. */
function routesOf(app: NestFastifyApplication): string[] {
  const tree = app.getHttpAdapter().getInstance().printRoutes({ commonPrefix: false });
  const routes: string[] = [];
  const above: string[] = [];
  for (const line of tree.split('\n')) {
    const [, indent = '', path, methods] = /^((?:[│ ] {3})*)[├└]── (\S+)(?: \((.+)\))?$/.exec(line) ?? [];
    if (path === undefined) continue;
    above.splice(indent.length / 4, above.length, path);
    const used = (methods?.split(', ') ?? []).filter((method) => method === 'GET' || method === 'POST');
    routes.push(...used.map((method) => `${method} ${above.join('')}`));
  }
  return routes.toSorted();
}
