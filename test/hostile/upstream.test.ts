import { readFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { blobOf, expectSpecError, filesUnder, sha256, spooled, untilIdle } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { digest, indexType, type Script } from '../upstream/scripted-registry.js';

const MiB = 1024 * 1024;
const allowedGrowth = 96 * MiB;
const mebibyte = Buffer.alloc(MiB, 'x');
const blob = blobOf(300_000, 'asked for');
const blobPath = `team/app/blobs/${blob.digest}`;
const tag = 'team/app/manifests/v1';
const headers = { 'content-type': indexType };

/** For ever, or as much as there is, at the pace at which it is taken. */
function pour(response: ServerResponse, chunk: Buffer | string, most = Infinity): void {
  const target = response.headersSent ? response : (response.socket ?? response);
  let left = most;
  const more = (): void => {
    while (left > 0 && !target.destroyed) {
      left -= chunk.length;
      if (!target.write(chunk)) return;
    }
    if (left <= 0) response.end();
  };
  target.on('drain', more);
  more();
}

/** HEAD is not served, so that GET is what counts. */
function get(script: Script): Script {
  return (request, response) => {
    if (request.method === 'HEAD') response.writeHead(405).end();
    else script(request, response);
  };
}

describe('a hostile upstream', () => {
  const scene = { script: (_, response) => response.writeHead(404).end() } as { script: Script };
  let cistern: Cistern;
  let port: number;
  let close: () => Promise<void>;
  beforeAll(async () => {
    port = await freePort();
    const server = createServer((request, response) => {
      response.on('error', () => undefined);
      scene.script(
        { method: request.method ?? '', url: request.url ?? '', headers: request.headers },
        response,
      );
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    close = async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    };
    cistern = await startCistern({
      config: { proxy: { remoteurl: `http://127.0.0.1:${port}`, maxblobsize: '64MiB', freshness: '1ms' } },
    });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await close();
  });

  async function memory(field: 'VmRSS' | 'VmHWM'): Promise<number> {
    const status = await readFile(`/proc/${cistern.pid}/status`, 'utf8');
    return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024;
  }

  /** The answer to one request, and what is true after each of them. */
  async function ask(
    path: string,
    script: Script,
  ): Promise<{ status: number; text: string | undefined; response: Response }> {
    scene.script = script;
    const before = await memory('VmRSS');
    const response = await fetch(`${cistern.url}/v2/${path}`);
    const copy = response.clone();
    const text = await copy.text().catch(() => undefined);
    await untilIdle(cistern);
    expect(await filesUnder(`${cistern.root}/docker/registry/v2/blobs`)).toEqual([]);
    await expect.poll(() => spooled(cistern.root)).toEqual([]);
    expect((await memory('VmHWM')) - before).toBeLessThan(allowedGrowth);
    return { status: response.status, text, response };
  }

  it.each<[string, string, Script]>([
    [
      'a manifest of 1 GiB',
      tag,
      get((_, r) => pour(r.writeHead(200, { ...headers, 'content-length': 1024 * MiB }), mebibyte)),
    ],
    ['a manifest without end', tag, get((_, r) => pour(r.writeHead(200, headers), mebibyte))],
    [
      'headers without end',
      tag,
      (_, r) => {
        r.socket?.write('HTTP/1.1 200 OK\r\n');
        pour(r, `X-More: ${'x'.repeat(1000)}\r\n`);
      },
    ],
    [
      'headers without end, of a blob',
      blobPath,
      (_, r) => {
        r.socket?.write('HTTP/1.1 200 OK\r\n');
        pour(r, `X-More: ${'x'.repeat(1000)}\r\n`);
      },
    ],
    ['what is no HTTP', tag, (_, r) => r.socket?.end('SSH-2.0-OpenSSH_9.6\r\n')],
    ['a redirect loop', tag, ({ url }, r) => r.writeHead(307, { location: url }).end()],
    [
      'a redirect to the metadata service',
      blobPath,
      (_, r) => r.writeHead(307, { location: 'http://169.254.169.254/latest/meta-data/iam' }).end(),
    ],
    ['a redirect to a file', blobPath, (_, r) => r.writeHead(307, { location: 'file:///etc/passwd' }).end()],
    [
      'a realm elsewhere',
      tag,
      (_, r) =>
        r.writeHead(401, { 'www-authenticate': 'Bearer realm="http://evil.test/token",service="x"' }).end(),
    ],
    [
      'a manifest that is compressed',
      tag,
      get((_, r) =>
        r.writeHead(200, { ...headers, 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(64 * MiB))),
      ),
    ],
    [
      'a manifest of another digest',
      `team/app/manifests/${digest('asked for')}`,
      get((_, r) => r.writeHead(200, headers).end('{}')),
    ],
    [
      'a digest that lies',
      tag,
      (_, r) => r.writeHead(200, { ...headers, 'docker-content-digest': digest('{}') }).end('{"a":1}'),
    ],
    [
      'a blob of 10 TB, by its length',
      blobPath,
      (_, r) => pour(r.writeHead(200, { 'content-length': 10 ** 13 }), mebibyte),
    ],
    [
      'a blob that is compressed',
      blobPath,
      (_, r) => r.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(blob.bytes)),
    ],
    [
      'a list of tags without end',
      'team/app/tags/list',
      (_, r) => {
        r.writeHead(200, { 'content-type': 'application/json' }).write('{"tags":["');
        pour(r, mebibyte);
      },
    ],
    [
      'pages without end',
      'team/app/tags/list',
      ({ url }, r) => {
        const page = Number(new URL(url, 'http://x').searchParams.get('p') ?? 0) + 1;
        r.writeHead(200, { link: `<${url.split('?', 1)[0]}?p=${page}>; rel="next"` }).end('{"tags":["a"]}');
      },
    ],
  ])('%s: an error in the form of the spec', async (_, path, script) => {
    const { response, status } = await ask(path, script);
    expect([404, 502, 503]).toContain(status);
    await expectSpecError(response, status, status === 503 ? 'UNAVAILABLE' : 'MANIFEST_UNKNOWN');
  });

  it.each<[string, Script]>([
    ['without end', (_, r) => pour(r.writeHead(200), mebibyte)],
    ['of other content', (_, r) => r.writeHead(200).end(blobOf(300_000, 'other').bytes)],
    [
      'with more than it declares',
      (_, r) => r.socket?.end(`HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(300_000)}`),
    ],
    [
      'that never comes to its length',
      (_, r) => {
        r.writeHead(200, { 'content-length': 400_000 }).write(blob.bytes);
        setTimeout(() => r.destroy(), 50);
      },
    ],
  ])('a blob %s is cut, never ended', async (_, script) => {
    const { status, text } = await ask(blobPath, script);
    const isError = status === 503 && text !== undefined;
    expect({ status, text: isError || text === undefined }).toEqual({ status, text: true });
  });

  it('a list of 10 MiB of tags is listed', async () => {
    const tags = Array.from({ length: 100_000 }, (_, index) => `v${index}-${'x'.repeat(90)}`);
    const { status, text } = await ask('team/app/tags/list', (_, r) =>
      r.writeHead(200).end(JSON.stringify({ tags })),
    );
    expect(status).toBe(200);
    expect((JSON.parse(text ?? '') as { tags: string[] }).tags.length).toBe(tags.length);
  });

  it('and after all that an honest blob, which is a gzip bomb, is served as it is', async () => {
    const bomb = gzipSync(Buffer.alloc(256 * MiB));
    const path = `/v2/team/app/blobs/${digest(bomb)}`;
    scene.script = ({ url }, r) => (url === path ? r.writeHead(200).end(bomb) : r.writeHead(404).end());
    const response = await fetch(cistern.url + path);
    expect(response.headers.get('content-encoding')).toBeNull();
    expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(sha256(bomb));
    expect(await memory('VmHWM')).toBeLessThan(400 * MiB);
  });
});
