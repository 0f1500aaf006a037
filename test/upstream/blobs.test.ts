import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Upstream } from '../../src/upstream/upstream.js';
import {
  clientOf,
  digest,
  impatient,
  patient,
  read,
  repository,
  serve,
  type Script,
} from './scripted-registry.js';

const name = repository('o/i');
const content = Buffer.from('0123456789');
const blob = digest(content);

/** Serves the content by the rules of HTTP. */
const honest: Script = (request, response) => {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (range === null) {
    response.writeHead(200, { 'content-length': content.length }).end(content);
    return;
  }
  const start = Number(range[1]);
  if (start >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  const end = range[2] === '' ? content.length - 1 : Number(range[2]);
  response
    .writeHead(206, {
      'content-range': `bytes ${start}-${end}/${content.length}`,
      'content-length': end - start + 1,
    })
    .end(content.subarray(start, end + 1));
};

function partial(range: string | undefined, bytes: string): Script {
  return (_, response) => {
    response.writeHead(206, range === undefined ? {} : { 'content-range': range }).end(bytes);
  };
}

describe('a blob', () => {
  it('comes whole, or from an offset on', async () => {
    const server = await serve(honest);
    const { upstream } = clientOf(server.url);
    const whole = await upstream.fetchBlob(name, blob, 0, patient);
    expect([whole.size, (await read(whole.body)).toString()]).toEqual([10, '0123456789']);
    const rest = await upstream.fetchBlob(name, blob, 7, patient);
    expect([rest.size, (await read(rest.body)).toString()]).toEqual([10, '789']);
    expect(server.arrived.map(({ url, headers }) => [url, headers.range])).toEqual([
      [`/v2/o/i/blobs/${blob}`, undefined],
      [`/v2/o/i/blobs/${blob}`, 'bytes=7-'],
    ]);
  });

  it('from an offset on is cut out of the whole where the server ignores ranges', async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, { 'content-length': content.length });
      for (const byte of content) response.write(Buffer.of(byte));
      response.end();
    });
    const { upstream } = clientOf(server.url);
    for (let offset = 0; offset <= content.length; offset += 1) {
      const { size, body } = await upstream.fetchBlob(name, blob, offset, patient);
      expect([size, (await read(body)).toString()]).toEqual([10, content.toString().slice(offset)]);
    }
    // One that has just been used becomes free a moment later.
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  it.each<[string, Script, string]>([
    ['starts elsewhere', partial('bytes 4-9/10', '456789'), 'range'],
    ['stops early', partial('bytes 5-8/10', '5678'), 'range'],
    ['says no range', partial(undefined, '56789'), 'range'],
    ['says no range that can be', partial('bytes 5-10/10', '56789x'), 'range'],
    ['cannot be satisfied', (_, r) => r.writeHead(416).end(), 'range'],
    ['is of a shorter whole', (_, r) => r.writeHead(200, { 'content-length': '3' }).end('012'), 'range'],
    [
      'is encoded',
      (_, r) => r.writeHead(206, { 'content-range': 'bytes 5-9/10', 'content-encoding': 'gzip' }).end(),
      'invalid',
    ],
    ['is encoded as a whole', (_, r) => r.writeHead(200, { 'content-encoding': 'gzip' }).end('x'), 'invalid'],
    ['is empty', (_, r) => r.writeHead(204).end(), 'invalid'],
    ['is missing', (_, r) => r.writeHead(404).end(), 'not-found'],
    ['is denied', (_, r) => r.writeHead(403).end(), 'denied'],
  ])('whose rest %s is refused', async (_, script, code) => {
    const { upstream } = clientOf((await serve(script)).url);
    await expect(upstream.fetchBlob(name, blob, 5, patient)).rejects.toMatchObject({ code });
  });

  it('in parts that nobody asked for is refused', async () => {
    const { upstream } = clientOf((await serve(partial('bytes 0-9/10', '0123456789'))).url);
    await expect(upstream.fetchBlob(name, blob, 0, patient)).rejects.toMatchObject({ code: 'invalid' });
  });

  it('of unknown length may have any', async () => {
    const { upstream } = clientOf((await serve((_, response) => response.writeHead(200).end(content))).url);
    const { size, body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect([size, await read(body)]).toEqual([undefined, content]);
  });

  it.each<[string, Script, string]>([
    [
      'is cut',
      (_, r) => r.writeHead(200, { 'content-length': 10 }).write('01234', () => r.destroy()),
      'broken-body',
    ],
    ['is cut between chunks', (_, r) => r.writeHead(200).write('01234', () => r.destroy()), 'broken-body'],
    [
      'is reset',
      (_, r) => r.writeHead(200, { 'content-length': 10 }).write('01234', () => r.socket?.resetAndDestroy()),
      'broken-body',
    ],
    ['stalls', (_, r) => r.writeHead(200, { 'content-length': 10 }).write('01234'), 'timeout'],
  ])('that %s fails after what came', async (_, script, code) => {
    const { upstream } = clientOf((await serve(script)).url, code === 'timeout' ? impatient : {});
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    const chunks: Uint8Array[] = [];
    const reading = (async () => {
      for await (const chunk of body) chunks.push(chunk);
    })();
    await expect(reading).rejects.toMatchObject({ code, kind: 'trouble' });
    expect(Buffer.concat(chunks).toString()).toBe('01234');
  });

  it.each([
    ['fewer', '567', 'broken-body'],
    ['more', '56789x', 'invalid'],
  ])('with %s bytes than its range fails', async (_, bytes, code) => {
    const { upstream } = clientOf((await serve(partial('bytes 5-9/10', bytes))).url);
    const { body } = await upstream.fetchBlob(name, blob, 5, patient);
    await expect(read(body)).rejects.toMatchObject({ code });
  });

  it('that ends in the prefix fails', async () => {
    const { upstream } = clientOf((await serve((_, response) => response.writeHead(200).end('012'))).url);
    const { body } = await upstream.fetchBlob(name, blob, 5, patient);
    await expect(read(body)).rejects.toMatchObject({ code: 'broken-body' });
  });
});

describe('a reader that leaves', () => {
  /** A client of a server whose blob never ends, and a promise of the end of the connection. No time-out ends it. */
  async function endless(): Promise<{ upstream: Upstream; closed: Promise<unknown> }> {
    const answered = Promise.withResolvers<ServerResponse>();
    const server = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 1e9 }).write(content);
      answered.resolve(response);
    });
    const { upstream } = clientOf(server.url, { timeouts: { bodyIdleMs: 600_000 } });
    return { upstream, closed: answered.promise.then((response) => once(response, 'close')) };
  }

  it('by ending the iteration gives up the connection', async () => {
    const { upstream, closed } = await endless();
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    for await (const chunk of body) {
      expect(Buffer.from(chunk)).toEqual(content);
      break;
    }
    await closed;
  });

  it('before it began gives up the connection', async () => {
    const { upstream, closed } = await endless();
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect(await body[Symbol.asyncIterator]().return?.()).toEqual({ done: true, value: undefined });
    await closed;
  });

  it('by its signal gets the reason and gives up the connection', async () => {
    const { upstream, closed } = await endless();
    const leaving = new AbortController();
    const { body } = await upstream.fetchBlob(name, blob, 0, leaving.signal);
    leaving.abort(new Error('enough'));
    await expect(read(body)).rejects.toThrow('enough');
    await closed;
  });

  it('that only pauses is not timed out', async () => {
    const server = await serve((_, response) => response.end(Buffer.alloc(4_000_000)));
    const { upstream } = clientOf(server.url, { timeouts: { bodyIdleMs: 200 } });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    let received = 0;
    for await (const chunk of body) {
      // Longer than the time-out and what its timer is late by.
      if (received === 0) await delay(1200);
      received += chunk.length;
    }
    expect(received).toBe(4_000_000);
  });
});

describe('a range', () => {
  it('comes exactly', async () => {
    const server = await serve(honest);
    const { size, body } = await clientOf(server.url).upstream.fetchRange(
      name,
      blob,
      { start: 2, end: 4 },
      patient,
    );
    expect([size, (await read(body)).toString()]).toEqual([10, '234']);
    expect(server.arrived[0]?.headers.range).toBe('bytes=2-4');
  });

  it.each<[string, Script, string]>([
    ['is the whole', (_, r) => r.writeHead(200).end(content), 'range'],
    ['starts elsewhere', partial('bytes 1-4/10', '1234'), 'range'],
    ['ends elsewhere', partial('bytes 2-5/10', '2345'), 'range'],
    ['is not said', partial(undefined, '234'), 'range'],
    ['cannot be satisfied', (_, r) => r.writeHead(416).end(), 'range'],
    ['is missing', (_, r) => r.writeHead(404).end(), 'not-found'],
  ])('that %s is refused', async (_, script, code) => {
    const { upstream } = clientOf((await serve(script)).url);
    const range = { start: 2, end: 4 };
    await expect(upstream.fetchRange(name, blob, range, patient)).rejects.toMatchObject({ code });
  });
});

describe('the HEAD of a blob', () => {
  it.each<[string, Script, number | undefined]>([
    ['tells the size', (_, r) => r.writeHead(200, { 'content-length': 10 }).end(), 10],
    ['may leave it open', (_, r) => r.writeHead(200, { 'transfer-encoding': 'chunked' }).end(), undefined],
    [
      'tells nothing where the length is that of an encoding',
      (_, r) => r.writeHead(200, { 'content-length': 5, 'content-encoding': 'gzip' }).end(),
      undefined,
    ],
    [
      'is made up for by a GET where it is not served',
      (q, r) =>
        r
          .writeHead(q.method === 'HEAD' ? 405 : 200, { 'content-length': 10 })
          .end(q.method === 'HEAD' ? '' : content),
      10,
    ],
    [
      'is replaced by a GET of one byte if the storage accepts only signed GETs',
      (q, r) => {
        if (q.url !== '/signed') r.writeHead(307, { location: '/signed' }).end();
        else if (q.method === 'HEAD') r.writeHead(403).end();
        else honest(q, r);
      },
      10,
    ],
    [
      'is replaced by a GET of one byte if HEAD always names a length of 0',
      (q, r) => (q.method === 'HEAD' ? r.writeHead(200, { 'content-length': 0 }).end() : honest(q, r)),
      10,
    ],
    [
      'follows redirects',
      (q, r) =>
        (q.url === '/signed'
          ? r.writeHead(200, { 'content-length': 10 })
          : r.writeHead(307, { location: '/signed' })
        ).end(),
      10,
    ],
  ])('%s', async (_, script, size) => {
    const { upstream } = clientOf((await serve(script)).url);
    expect(await upstream.headBlob(name, blob, patient)).toBe(size);
  });

  const page = { 'content-type': 'text/html; charset=utf-8', 'content-length': 10 };
  it.each<[string, Script]>([
    ['a login page', (_, r) => r.writeHead(200, page).end()],
    [
      'a page without a length',
      (_, r) => r.writeHead(200, { 'content-type': 'application/xhtml+xml' }).end(),
    ],
    [
      'a redirect to a login page',
      (q, r) =>
        (q.url === '/login' ? r.writeHead(200, page) : r.writeHead(302, { location: '/login' })).end(),
    ],
    [
      'a redirect to a refusal',
      (q, r) => (q.url === '/login' ? r.writeHead(403) : r.writeHead(302, { location: '/login' })).end(),
    ],
    [
      'a page only for the GET',
      (q, r) => (q.method === 'HEAD' ? r.writeHead(405) : r.writeHead(200, page)).end(),
    ],
    [
      'another digest',
      (_, r) => r.writeHead(200, { 'content-length': 10, 'docker-content-digest': digest('other') }).end(),
    ],
    [
      'a page that names another digest',
      (_, r) => r.writeHead(200, { ...page, 'docker-content-digest': digest('other') }).end(),
    ],
  ])('fails if the answer is %s', async (_, script) => {
    const { upstream } = clientOf((await serve(script)).url);
    await expect(upstream.headBlob(name, blob, patient)).rejects.toMatchObject({
      code: 'invalid',
      kind: 'trouble',
    });
  });

  it('names the size of a web page that has the requested digest', async () => {
    const headers = { ...page, 'docker-content-digest': blob };
    const { upstream } = clientOf((await serve((_, r) => r.writeHead(200, headers).end(content))).url);
    expect(await upstream.headBlob(name, blob, patient)).toBe(10);
    expect(await read((await upstream.fetchBlob(name, blob, 0, patient)).body)).toEqual(content);
  });

  it('of a missing one is an answer, also where a redirect led', async () => {
    const { upstream } = clientOf((await serve((_, response) => response.writeHead(404).end())).url);
    await expect(upstream.headBlob(name, blob, patient)).rejects.toMatchObject({ code: 'not-found' });
    const redirecting = await serve((request, response) =>
      (request.url === '/x' ? response.writeHead(404) : response.writeHead(302, { location: '/x' })).end(),
    );
    const second = clientOf(redirecting.url).upstream;
    await expect(second.headBlob(name, blob, patient)).rejects.toMatchObject({ code: 'not-found' });
  });
});
