import { describe, expect, it } from 'vitest';
import { UpstreamError } from '../../src/upstream/upstream.js';
import {
  clientOf,
  impatient,
  patient,
  repository,
  sendJson,
  sendManifest,
  serve,
  tag,
  type Script,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');
const failing: Script = (_, response) => response.writeHead(503).end();

describe('an answer of an upstream', () => {
  it.each<[number, string, string]>([
    [403, 'denied', 'answer'],
    [404, 'not-found', 'answer'],
    [400, 'invalid', 'trouble'],
    [204, 'invalid', 'trouble'],
    [304, 'invalid', 'trouble'],
    [500, 'server-error', 'trouble'],
    [503, 'server-error', 'trouble'],
  ])('%i means %s', async (status, code, kind) => {
    const { upstream } = clientOf((await serve((_, response) => response.writeHead(status).end())).url);
    const asked = upstream.fetchManifest(name, latest, patient);
    await expect(asked).rejects.toMatchObject({ code, kind, status, host: 'registry.test' });
    await expect(asked).rejects.toThrow(`answered ${status} to GET manifest`);
  });

  it.each<[string, Script, number | undefined]>([
    [
      'JSON and seconds',
      (_, r) => {
        r.setHeader('retry-after', '30');
        sendJson(r, { errors: [{ code: 'TOOMANYREQUESTS' }] }, 429);
      },
      30_000,
    ],
    [
      'plain text and a date that is past',
      (_, r) => r.writeHead(429, { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }).end('Too Many Requests'),
      0,
    ],
    ['a long text', (_, r) => r.writeHead(429).end('x'.repeat(500_000)), undefined],
    ['a text that stalls', (_, r) => r.writeHead(429, { 'content-length': 10 }).write('x'), undefined],
    ['nothing', (_, r) => r.writeHead(429).end(), undefined],
  ])('429 with %s is the rate limit', async (_, script, retryAfterMs) => {
    const { upstream, told } = clientOf((await serve(script)).url);
    await expect(upstream.fetchManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'rate-limited',
      status: 429,
      retryAfterMs,
    });
    expect(told.rateLimited).toBe(1);
  });

  it('tells the pull limit', async () => {
    const server = await serve((request, response) => {
      response.setHeader('ratelimit-limit', '100;w=21600').setHeader('ratelimit-remaining', '76;w=21600');
      sendManifest(request, response);
    });
    const { upstream, told } = clientOf(server.url);
    expect(upstream.budget).toBeUndefined();
    await upstream.headManifest(name, latest, patient);
    expect(upstream.budget).toEqual({ limit: 100, remaining: 76, windowSeconds: 21_600, freshnessFactor: 1 });
    expect(told.limits).toEqual([upstream.budget]);
  });
});

describe('an upstream that does not answer', () => {
  it('for too long is a time-out', async () => {
    const { upstream, told } = clientOf((await serve(() => {})).url, impatient);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'timeout' });
    expect(told.requests).toEqual([
      expect.objectContaining({ kind: 'manifest', method: 'HEAD', outcome: 'timeout' }),
    ]);
  });

  it('is unreachable where nobody listens', async () => {
    const { upstream } = clientOf('http://127.0.0.1:1');
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'unreachable' });
  });

  it('is unreachable where it hangs up', async () => {
    const { upstream } = clientOf((await serve((_, response) => response.destroy())).url);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'unreachable' });
  });

  it('is invalid where it does not speak HTTP', async () => {
    const server = await serve((_, response) => response.socket?.end('SSH-2.0-OpenSSH\r\n'));
    const asked = clientOf(server.url).upstream.headManifest(name, latest, patient);
    await expect(asked).rejects.toMatchObject({ code: 'invalid' });
    // It would hold what was received.
    await expect(asked).rejects.not.toHaveProperty('cause');
  });

  it('is asked again where only one connection was lost', async () => {
    let served = 0;
    const server = await serve((request, response) => {
      served += 1;
      if (served === 1) response.destroy();
      else sendManifest(request, response);
    });
    const { upstream } = clientOf(server.url);
    await expect(upstream.headManifest(name, latest, patient)).resolves.toMatchObject({ size: 19 });
    expect(served).toBe(2);
  });
});

describe('a caller that goes away', () => {
  it('gets its own reason', async () => {
    const arrived = Promise.withResolvers<void>();
    const { upstream, told } = clientOf((await serve(() => arrived.resolve())).url);
    const leaving = new AbortController();
    const asked = upstream.headManifest(name, latest, leaving.signal);
    await arrived.promise;
    leaving.abort('enough');
    await expect(asked).rejects.toBe('enough');
    expect(told.requests).toEqual([expect.objectContaining({ outcome: 'aborted' })]);
    await expect(upstream.headManifest(name, latest, leaving.signal)).rejects.toBe('enough');
  });
});

describe('the breaker of an upstream', () => {
  it('opens after five failures for different repositories, and lets one request try again', async () => {
    let script = sendManifest;
    const server = await serve((request, response) => script(request, response));
    let time = 0;
    const { upstream, told } = clientOf(server.url, { now: () => time });
    const ask = (of = name): Promise<unknown> => upstream.headManifest(of, latest, patient);
    for (let i = 0; i < 5; i += 1) await ask(repository(`o/i${i}`));
    script = failing;
    for (let i = 0; i < 5; i += 1) {
      await expect(ask(repository(`o/i${i}`))).rejects.toMatchObject({ code: 'server-error' });
    }
    expect(upstream.breakerState()).toBe('open');
    await expect(ask()).rejects.toMatchObject({ code: 'breaker-open', kind: 'trouble' });
    expect(server.arrived).toHaveLength(10);
    time += 10_000;
    script = sendManifest;
    await Promise.allSettled([ask(), ask(), ask()]);
    expect(server.arrived).toHaveLength(11);
    expect(upstream.breakerState()).toBe('closed');
    expect(told.breaker).toEqual(['open', 'half-open', 'closed']);
    expect(told.log).toHaveLength(2);
  });

  it('opens after five failed connections, for one repository too', async () => {
    const { upstream } = clientOf('http://127.0.0.1:1');
    for (let i = 0; i < 5; i += 1) {
      await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
        code: 'unreachable',
      });
    }
    expect(upstream.breakerState()).toBe('open');
  });

  it('stays closed if redirects of one repository lead to an unreachable host', async () => {
    const server = await serve((_, response) => {
      response.writeHead(307, { location: 'http://127.0.0.1:1/blob' }).end();
    });
    const { upstream } = clientOf(server.url);
    for (let i = 0; i < 5; i += 1) {
      await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
        code: 'unreachable',
      });
    }
    expect(upstream.breakerState()).toBe('closed');
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'breaker-open',
    });
  });

  it.each<[string, Script]>([
    ['404', (_, r) => r.writeHead(404).end()],
    ['429', (_, r) => r.writeHead(429).end()],
    ['401', (_, r) => r.writeHead(401).end()],
    ['400', (_, r) => r.writeHead(400).end()],
  ])('takes %s for a sign of life', async (_, script) => {
    let asked = 0;
    const server = await serve((request, response) => {
      asked += 1;
      (asked % 5 === 0 ? script : failing)(request, response);
    });
    const { upstream } = clientOf(server.url);
    for (let i = 0; i < 12; i += 1) {
      await expect(upstream.headManifest(name, latest, patient)).rejects.toBeInstanceOf(UpstreamError);
    }
    expect(upstream.breakerState()).toBe('closed');
  });

  it.each([
    ['counts a deadline of the caller', new UpstreamError('timeout', 'registry.test', 'deadline'), 'open'],
    ['does not count a caller that left', new Error('left'), 'closed'],
  ])('%s', async (_, reason, state) => {
    let arrived = Promise.withResolvers<void>();
    const { upstream } = clientOf((await serve(() => arrived.resolve())).url);
    for (let i = 0; i < 5; i += 1) {
      arrived = Promise.withResolvers();
      const leaving = new AbortController();
      const asked = upstream.headManifest(repository(`o/i${i}`), latest, leaving.signal);
      await arrived.promise;
      leaving.abort(reason);
      await expect(asked).rejects.toBe(reason);
    }
    expect(upstream.breakerState()).toBe(state);
  });
});

it('closing ends what is running', async () => {
  const arrived = Promise.withResolvers<void>();
  const { upstream } = clientOf((await serve(() => arrived.resolve())).url);
  const asked = upstream.headManifest(name, latest, patient);
  void arrived.promise.then(() => upstream.close());
  await expect(asked).rejects.toMatchObject({ code: 'unreachable' });
});
