import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { parseDigest, type Digest } from '../../src/oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../src/oci/name.js';
import { createUpstream, type RegistryUpstream, type UpstreamOptions } from '../../src/upstream/client.js';
import { userWith } from '../../src/upstream/credentials.js';
import type { BreakerState, PartsEvent, RequestFinished } from '../../src/upstream/observer.js';
import type { Budget } from '../../src/upstream/upstream.js';

/** A request as it arrived. */
export interface Arrived {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

export interface ScriptedServer {
  readonly port: number;
  readonly url: string;
  /** In the order of their arrival. */
  readonly arrived: Arrived[];
  /** Connections that were opened. */
  readonly connections: () => number;
}

export type Script = (request: Arrived, response: ServerResponse) => void;

/** An HTTP server on loopback that does what the test says, until the test ends. */
export async function serve(script: Script, tls?: { key: string; cert: string }): Promise<ScriptedServer> {
  const arrived: Arrived[] = [];
  let connections = 0;
  const listener: RequestListener = ({ method = '', url = '', headers }, response) => {
    const request = { method, url, headers };
    arrived.push(request);
    script(request, response);
  };
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  server.on('connection', () => (connections += 1));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  const url = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  return { port, url, arrived, connections: () => connections };
}

/** What the client told its observer and its log. */
export interface Told {
  readonly requests: RequestFinished[];
  readonly tokens: string[];
  readonly breaker: BreakerState[];
  readonly parts: PartsEvent[];
  readonly limits: (Budget | undefined)[];
  rateLimited: number;
  readonly log: string[];
}

/** A client of a server, until the test ends. Its time-outs are long enough for a busy machine. */
export function clientOf(
  url: string,
  changes: Partial<UpstreamOptions> = {},
): { upstream: RegistryUpstream; told: Told } {
  const told: Told = {
    requests: [],
    tokens: [],
    breaker: [],
    parts: [],
    limits: [],
    rateLimited: 0,
    log: [],
  };
  const write = (facts: object, message: string): void => {
    told.log.push(`${JSON.stringify(facts)} ${message}`);
  };
  const upstream = createUpstream({
    host: 'registry.test',
    url,
    realms: [],
    timeouts: { connectMs: 30_000, headersMs: 30_000, bodyIdleMs: 30_000, tokenMs: 30_000 },
    log: { info: write, warn: write, error: write },
    observer: {
      requestFinished: (event) => told.requests.push(event),
      rateLimited: () => (told.rateLimited += 1),
      budgetChanged: (_, budget) => told.limits.push(budget),
      credentialsRefused: () => undefined,
      tokenFetched: (_, outcome) => told.tokens.push(outcome),
      breakerChanged: (_, state) => told.breaker.push(state),
      partsFetched: (_, event) => told.parts.push(event),
    },
    ...changes,
  });
  onTestFinished(() => upstream.close());
  return { upstream, told };
}

/** For a test that waits for a time-out. */
export const impatient = { timeouts: { headersMs: 200, bodyIdleMs: 200, tokenMs: 200 } };

export const credentials = { credentials: [userWith('user', () => 'hunter2')] };
export const basic = `Basic ${Buffer.from('user:hunter2').toString('base64')}`;

/** Never aborts. */
export const patient = new AbortController().signal;

export function repository(name: string): Repository {
  return known(parseRepository(name), name);
}

export function tag(name: string): Tag {
  return known(parseTag(name), name);
}

export function digest(of: string | Uint8Array): Digest {
  const text = `sha256:${createHash('sha256').update(of).digest('hex')}`;
  return known(parseDigest(text), text);
}

function known<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new TypeError(`the test is wrong about ${text}`);
  return value;
}

export const indexType = 'application/vnd.oci.image.index.v1+json';

/** Answers with a manifest, with all headers that a registry has to send. */
export function sendManifest(
  request: Arrived,
  response: ServerResponse,
  bytes = '{"schemaVersion":1}',
): void {
  response.writeHead(200, {
    'content-type': indexType,
    'content-length': Buffer.byteLength(bytes),
    'docker-content-digest': digest(bytes),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

/** The value of a `WWW-Authenticate` header. */
export function bearer(realm: string): string {
  return `Bearer realm="${realm}",service="registry",scope="repository:o/i:pull"`;
}

export function refuse(response: ServerResponse, challenge: string): void {
  response.writeHead(401, { 'www-authenticate': challenge, 'content-type': 'application/json' });
  response.end('{"errors":[{"code":"UNAUTHORIZED"}]}');
}

export function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

export async function read(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
