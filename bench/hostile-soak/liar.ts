import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { LoopbackServer } from '../../test/fakes/loopback-server.js';
import type { Content } from '../../test/parts/image.js';

type Lie = (request: IncomingMessage, response: ServerResponse) => void;

const mebibyte = 1024 * 1024;
const index = { 'content-type': 'application/vnd.oci.image.index.v1+json' };
const page = { 'content-type': 'text/html' };
const json = { 'content-type': 'application/json' };
const loginPage = '<html><form action="/login">Please sign in</form></html>';
/** 31 MiB, just below the limit for an answer of an upstream. */
const giantList = Buffer.from(
  JSON.stringify({
    name: 'giant',
    tags: Array.from({ length: 1_000_000 }, (_, tag) => `tag-${String(tag).padStart(24, '0')}`),
  }),
);
const noise = randomBytes(mebibyte);

/** The answer to every request for a repository, by the name of the repository. */
const lies: Readonly<Record<string, Lie>> = {
  'redirect/login': (_, r) => void r.writeHead(302, { location: '/login' }).end(),
  'redirect/loop': ({ url = '/' }, r) => void r.writeHead(307, { location: url }).end(),
  'redirect/silent': (_, r) => void r.writeHead(307, { location: '/silent' }).end(),
  'redirect/file': (_, r) => void r.writeHead(307, { location: 'file:///etc/passwd' }).end(),
  'redirect/error': (_, r) => void r.writeHead(307, { location: '/error' }).end(),
  'lie/bytes': (_, r) => void r.writeHead(200, { ...index, 'content-length': noise.byteLength }).end(noise),
  'lie/length': (_, r) => {
    r.writeHead(200, { ...index, 'content-length': 10 * mebibyte });
    r.write(noise, () => r.destroy());
  },
  'lie/digest': (_, r) =>
    void r.writeHead(200, { ...index, 'docker-content-digest': `sha256:${'0'.repeat(64)}` }).end('{}'),
  'lie/range': (_, r) => void r.writeHead(206, { ...index, 'content-range': 'bytes 5-9/3' }).end('12345'),
  'lie/page': (_, r) => void r.writeHead(200, page).end(loginPage),
  'lie/json': (_, r) => void r.writeHead(200, json).end('{"tags":[1,{}],"manifests":"none","name":'),
  'lie/realm': (_, r) =>
    void r
      .writeHead(401, { 'www-authenticate': 'Bearer realm="http://127.0.0.1:1/token",service="x"' })
      .end(),
  'stall/headers': () => undefined,
  'stall/body': (_, r) => {
    r.writeHead(200, { ...index, 'content-length': mebibyte });
    r.write(noise.subarray(0, 1000));
  },
  'stall/drip': (_, r) => {
    r.writeHead(200, index);
    const timer = setInterval(() => r.write(' '), 500);
    r.once('close', () => clearInterval(timer));
  },
  'cut/reset': ({ socket }) => void socket.resetAndDestroy(),
  'cut/headers': ({ socket }) => void socket.end('HTTP/1.1 200 OK\r\nContent-Le'),
  'cut/foreign': ({ socket }) => void socket.end('SSH-2.0-OpenSSH_9.6\r\n'),
  'status/403': (_, r) => void r.writeHead(403, page).end(loginPage),
  'status/429': (_, r) => void r.writeHead(429, { 'retry-after': '1' }).end(),
  'status/500': (_, r) => void r.writeHead(500, page).end(noise),
  giant: (_, r) => void r.writeHead(200, { ...json, 'content-length': giantList.byteLength }).end(giantList),
  'endless/pages': ({ url = '' }, r) => {
    const next = `<${url.replace(/\?.*/, '')}?last=${Math.random()}>; rel="next"`;
    r.writeHead(200, { ...json, link: next }).end('{"name":"endless","tags":["a","b"]}');
  },
  'endless/body': ({ method }, r) => {
    r.writeHead(200, index);
    // A write in answer to HEAD calls back at once, so the loop below would never yield.
    if (method === 'HEAD') return void r.end();
    const pour = (): void => void (r.destroyed || r.write(noise, pour));
    pour();
  },
};

export const lieNames = Object.keys(lies).filter((name) => name !== 'giant');

/** A registry that redirects, lies or stalls, depending on the repository's name. It serves `nested` correctly. */
export class Liar implements AsyncDisposable {
  readonly #nested: ReadonlyMap<string, Content>;
  readonly #server = new LoopbackServer(() =>
    createServer((request, response) => this.#serve(request, response)),
  );

  private constructor(nested: readonly Content[]) {
    this.#nested = new Map(nested.map((content) => [content.digest, content]));
  }

  static async start(nested: readonly Content[]): Promise<Liar> {
    const liar = new Liar(nested);
    await liar.#server.up();
    return liar;
  }

  get url(): string {
    return `http://${this.#server.host}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.down();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => undefined); // the client disconnected
    const path = request.url ?? '/';
    if (path === '/login') return void response.writeHead(200, page).end(loginPage);
    if (path === '/error') return void response.writeHead(500, page).end(loginPage);
    if (path === '/silent') return;
    const nested = /^\/v2\/nested\/manifests\/(sha256:[0-9a-f]+)$/.exec(path)?.[1];
    const content = nested === undefined ? undefined : this.#nested.get(nested);
    if (content !== undefined) {
      const headers = { 'content-type': content.mediaType, 'docker-content-digest': content.digest };
      return void response.writeHead(200, headers).end(content.bytes);
    }
    const name = Object.keys(lies).find((each) => path.startsWith(`/v2/${each}/`));
    if (name === undefined) return void response.writeHead(404).end();
    lies[name]?.(request, response);
  }
}
