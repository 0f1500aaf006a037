import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { makeCertificate, type CertificateFiles } from '../parts/certificates.js';
import { LoopbackServer } from './loopback-server.js';

export type Kind = 'pods' | 'secrets' | 'nodes';

export interface KubeObject {
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

interface Stored extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly resourceVersion: string };
}

interface Change {
  readonly version: number;
  readonly kind: Kind;
  readonly before: Stored | undefined;
  readonly after: Stored | undefined;
}

interface Watcher {
  readonly request: KubeRequest;
  readonly response: ServerResponse;
}

export interface KubeRequest {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly watch: boolean;
  status: number;
}

/**
 * The API server of Kubernetes as far as a watching client sees it (Kubernetes, "API Concepts"): consistent lists in
 * pages, watches that replay, bookmarks, field selectors, versions that are compacted away, bearer tokens, TLS.
 */
export class FakeKubeApi implements AsyncDisposable {
  readonly requests: KubeRequest[] = [];
  readonly kubeconfig: string;
  #token = 'first-token';
  #version = 100;
  #compacted = 0;
  readonly #objects = new Map<string, Stored>();
  readonly #changes: Change[] = [];
  readonly #snapshots = new Map<string, { readonly version: number; readonly rest: readonly Stored[] }>();
  readonly #watchers = new Set<Watcher>();
  #beforePage: (() => void) | undefined;
  readonly #forbidden = new Set<string>();
  readonly #server: LoopbackServer;

  private constructor(
    private readonly folder: string,
    private readonly authority: CertificateFiles,
    own: CertificateFiles,
  ) {
    this.kubeconfig = join(folder, 'kubeconfig');
    const tls = { cert: readFileSync(own.certificate), key: readFileSync(own.key) };
    this.#server = new LoopbackServer(() =>
      createServer(tls, (request, response) => this.#answer(request, response)),
    );
  }

  /** Its certificates and its kubeconfig are in the folder. */
  static async start(folder: string): Promise<FakeKubeApi> {
    const authority = await makeCertificate(folder, 'kubernetes-ca');
    const own = await makeCertificate(folder, 'kubernetes', authority);
    const api = new FakeKubeApi(folder, authority, own);
    await api.up();
    await api.#writeKubeconfig();
    return api;
  }

  up(): Promise<void> {
    return this.#server.up();
  }

  /** Resets all connections, and refuses new ones until `up`. */
  down(): Promise<void> {
    return this.#server.down();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  // Objects

  /** Creates it, or takes the place of the one of this name. */
  put(kind: Kind, object: KubeObject): void {
    this.#version += 1;
    const key = keyOf(kind, object);
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    this.#change(kind, key, { ...object, metadata });
  }

  remove(kind: Kind, namespace: string, name: string): void {
    this.#version += 1;
    this.#change(kind, `${kind}/${namespace}/${name}`, undefined);
  }

  // What goes wrong, and what is routine

  /** The one before is not taken any more; the kubeconfig has the new one. */
  async changeToken(token: string): Promise<void> {
    this.#token = token;
    await this.#writeKubeconfig();
  }

  /** 403 to this path, until it is allowed. */
  forbid(path: string): void {
    this.#forbidden.add(path);
  }

  allow(path: string): void {
    this.#forbidden.delete(path);
  }

  /** Nothing that happened until now can be replayed any more, nor lists that are under way be gone on with. */
  compact(): void {
    this.#version += 1;
    this.#compacted = this.#version;
    this.#snapshots.clear();
  }

  /** Just before the next page of a list that is under way. */
  beforeNextPage(happens: () => void): void {
    this.#beforePage = happens;
  }

  /** To all watchers. */
  bookmark(): void {
    for (const { response } of this.#watchers) {
      const metadata = { resourceVersion: String(this.#version) };
      response.write(line({ type: 'BOOKMARK', object: { kind: 'Pod', metadata } }));
    }
  }

  /** As when a watch's time is over. */
  endWatches(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
  }

  /** In the middle of an event, by a connection that breaks. */
  cutWatches(): void {
    for (const { response } of this.#watchers) {
      response.write('{"type":"MODIFIED","object":{"metadata":{"na', () => response.socket?.destroy());
    }
    this.#watchers.clear();
  }

  /** Those that are open. */
  get watches(): number {
    return this.#watchers.size;
  }

  lists(path: string): KubeRequest[] {
    return this.requests.filter((request) => request.path === path && !request.watch);
  }

  async #writeKubeconfig(): Promise<void> {
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'mirror', namespace: 'mirrors' } }],
      clusters: [
        {
          name: 'test',
          cluster: {
            server: `https://${this.#server.host}`,
            'certificate-authority': this.authority.certificate,
          },
        },
      ],
      users: [{ name: 'mirror', user: { token: this.#token } }],
    };
    await writeFile(join(this.folder, 'kubeconfig'), stringify(config));
  }

  #change(kind: Kind, key: string, after: Stored | undefined): void {
    const change = { version: this.#version, kind, before: this.#objects.get(key), after };
    if (after === undefined) this.#objects.delete(key);
    else this.#objects.set(key, after);
    this.#changes.push(change);
    for (const watcher of this.#watchers) tell(watcher, change);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'https://kubernetes');
    const watch = url.searchParams.get('watch') === 'true';
    const asked = { path: url.pathname, query: url.searchParams, watch, status: 200 };
    this.requests.push(asked);
    if (request.headers.authorization !== `Bearer ${this.#token}`) return refuse(response, asked, 401);
    if (this.#forbidden.has(asked.path)) return refuse(response, asked, 403);
    if (kindOf(asked) === undefined) return refuse(response, asked, 404);
    if (watch) this.#watch(asked, response);
    else this.#list(asked, response);
  }

  #list(asked: KubeRequest, response: ServerResponse): void {
    const from = asked.query.get('continue');
    if (from !== null) {
      this.#beforePage?.();
      this.#beforePage = undefined;
    }
    const snapshot =
      from === null ? { version: this.#version, rest: this.#selected(asked) } : this.#snapshots.get(from);
    if (snapshot === undefined) return refuse(response, asked, 410);
    const limit = Number(asked.query.get('limit') ?? Infinity);
    const rest = snapshot.rest.slice(limit);
    const token = rest.length === 0 ? '' : `after-${this.requests.length}`;
    if (token !== '') this.#snapshots.set(token, { version: snapshot.version, rest });
    response.setHeader('content-type', 'application/json').end(
      JSON.stringify({
        kind: 'List',
        metadata: { resourceVersion: String(snapshot.version), ...(token === '' ? {} : { continue: token }) },
        items: snapshot.rest.slice(0, limit),
      }),
    );
  }

  #selected(asked: KubeRequest): Stored[] {
    const ofKind = [...this.#objects].filter(([key]) => key.startsWith(`${kindOf(asked)}/`));
    return ofKind.map(([, object]) => object).filter((object) => selects(asked, object));
  }

  #watch(asked: KubeRequest, response: ServerResponse): void {
    response.setHeader('content-type', 'application/json').flushHeaders();
    const from = Number(asked.query.get('resourceVersion'));
    if (from < this.#compacted) {
      const status = { kind: 'Status', status: 'Failure', reason: 'Expired', code: 410 };
      response.end(line({ type: 'ERROR', object: status }));
      return;
    }
    const watcher = { request: asked, response };
    for (const change of this.#changes) if (change.version > from) tell(watcher, change);
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
  }
}

function tell({ request, response }: Watcher, { kind, before, after, version }: Change): void {
  if (kindOf(request) !== kind) return;
  const was = before !== undefined && selects(request, before);
  const is = after !== undefined && selects(request, after);
  if (is) response.write(line({ type: was ? 'MODIFIED' : 'ADDED', object: after }));
  else if (was) {
    // The state before it was gone, or before it was none of those that are wanted, with the version of the change.
    const metadata = { ...before.metadata, resourceVersion: String(version) };
    response.write(line({ type: 'DELETED', object: { ...before, metadata } }));
  }
}

function line(event: unknown): string {
  return `${JSON.stringify(event)}\n`;
}

function refuse(response: ServerResponse, asked: KubeRequest, status: number): void {
  asked.status = status;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ kind: 'Status', status: 'Failure', code: status }));
}

const paths = /^\/api\/v1\/(?:namespaces\/([^/]+)\/)?(pods|secrets|nodes)$/;

function kindOf({ path }: KubeRequest): Kind | undefined {
  return paths.exec(path)?.[2] as Kind | undefined;
}

function keyOf(kind: Kind, { metadata }: KubeObject): string {
  return `${kind}/${metadata.namespace ?? ''}/${metadata.name}`;
}

/** Of the right kind it is. */
function selects({ path, query }: KubeRequest, { metadata, status }: Stored): boolean {
  const namespace = paths.exec(path)?.[1];
  if (namespace !== undefined && namespace !== metadata.namespace) return false;
  const { phase = '' } = (status ?? {}) as { phase?: string };
  return (query.get('fieldSelector') ?? '').split(',').every((term) => {
    const [, field, operator, value] = /^([\w.]+)(!?=)(.*)$/.exec(term) ?? [];
    if (field === undefined) return true;
    const actual = field === 'metadata.name' ? metadata.name : phase;
    return (actual === value) === (operator === '=');
  });
}
