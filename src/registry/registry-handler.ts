import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { parsePath, type ContentTarget, type ParsedPath, type Target } from '../oci/path.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { Route, UpstreamDirectory } from '../upstream/directory.js';
import type { AccessControl, Caller } from './access-control.js';
import type { Access } from './access.js';
import type { BlobReply } from './blob-reply.js';
import type { CallerGate } from './caller-gate.js';
import { RegistryError, toRegistryError } from './errors.js';
import { Exchange, type HandlerName } from './exchange.js';
import { idHeader, type FastLane } from './fast-lane.js';
import type { HeldAnswers } from './held-answers.js';
import type { ListingFilter, ListingReply } from './listing-reply.js';
import type { ManifestReply } from './manifest-reply.js';
import type { Limits } from './limits.js';
import { beginSpan } from './request-span.js';
import { sendError, sendText } from './reply.js';

export interface RegistryHandlerOptions {
  readonly directory: UpstreamDirectory;
  readonly manifests: ManifestReply;
  readonly blobs: BlobReply;
  readonly listings: ListingReply;
  readonly access: Access;
  readonly limits: Limits;
  readonly heldAnswers: HeldAnswers;
  /** `undefined`: everybody may pull everything, and nobody is asked who they are. */
  readonly control: AccessControl | undefined;
  readonly callers: CallerGate;
  readonly tracing: Tracing | undefined;
  /** `undefined`: each answer is made anew. */
  readonly lane: FastLane | undefined;
  /** `http.prefix`, without its closing slash. */
  readonly prefix: string;
}

/**
 * Everything under `/v2/`: the path is parsed once, routed to an upstream once, and answered. It stands before the
 * framework, on Node's own request and response: a warm manifest is answered without a promise.
 */
export class RegistryHandler {
  /** Connections with a request that waits until the answer before it is out. */
  readonly #waiting = new WeakSet<Socket>();

  constructor(private readonly options: RegistryHandlerOptions) {}

  handle(request: IncomingMessage, response: ServerResponse): void {
    if (response.socket === null) {
      this.#handleNext(request, response);
      return;
    }
    const { access, tracing, lane, heldAnswers } = this.options;
    const exchange = new Exchange(
      request,
      response,
      access.newId(request.headers['x-request-id']),
      heldAnswers,
    );
    const url = request.url ?? '';
    const parsed = parsePath(
      url.startsWith(this.options.prefix) ? url.slice(this.options.prefix.length) : url,
    );
    exchange.handler = handlerOf(parsed?.target);
    access.begin(exchange.handler);
    response.once('close', () => access.end(exchange));
    lane?.follow(exchange);
    response.on('error', () => undefined); // a client that left; `close` follows
    response.setHeader('Docker-Distribution-Api-Version', 'registry/2.0');
    response.setHeader(idHeader, exchange.id);
    if (tracing === undefined) this.#begin(exchange, parsed);
    else {
      const span = beginSpan(tracing, exchange, parsed);
      exchange.traceId = span.traceId;
      span.run(() => this.#begin(exchange, parsed));
    }
  }

  #begin(exchange: Exchange, parsed: ParsedPath | undefined): void {
    const { limits } = this.options;
    let pending: Promise<void> | undefined;
    try {
      limits.check(exchange, parsed);
      pending = this.#answer(exchange, parsed);
    } catch (error) {
      this.#fail(exchange, error);
    }
    if (pending === undefined) return;
    limits.hold(exchange);
    pending.catch((error: unknown) => this.#fail(exchange, error));
  }

  /**
   * A request that came before the last one's answer is out. One may: over TLS a client has the whole answer, and
   * asks for more, before this side hears that all is sent. It is not begun until then, for Node does not tell when
   * the client of a waiting one leaves. Who sends more of them waits for no answer, and is no registry client.
   */
  #handleNext(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    if (this.#waiting.has(socket)) {
      socket.destroy();
      return;
    }
    this.#waiting.add(socket);
    response.once('socket', () => {
      this.#waiting.delete(socket);
      process.nextTick(() => this.handle(request, response)); // once Node is done with giving it the socket
    });
  }

  #answer(exchange: Exchange, parsed: ParsedPath | undefined): Promise<void> | undefined {
    const { control } = this.options;
    if (control === undefined) return this.#dispatch(exchange, parsed, undefined);
    return control.admit(exchange, parsed).then((caller) => {
      exchange.user = caller.user;
      if (caller.user !== undefined) this.options.limits.holdForUser(exchange, caller.user);
      return this.#dispatch(exchange, parsed, caller);
    });
  }

  /** `caller`: who was let in; without it that was asked of nobody. */
  #dispatch(
    exchange: Exchange,
    parsed: ParsedPath | undefined,
    caller: Caller | undefined,
  ): Promise<void> | undefined {
    const { listings, callers } = this.options;
    const { method } = exchange.request;
    if (method !== 'GET' && method !== 'HEAD') {
      // What the client is about to send is not wanted: the connection ends with the answer.
      throw new RegistryError('UNSUPPORTED', undefined, { Allow: 'GET, HEAD', Connection: 'close' });
    }
    if (parsed === undefined) throw new RegistryError('NAME_UNKNOWN', 'no such end point');
    const { target, query } = parsed;
    switch (target.kind) {
      case 'base':
        callers.greet(exchange, this.#hostOf(exchange, query), caller);
        sendText(exchange, 200, '{}');
        return undefined;
      case 'catalog':
        callers.guardCatalogue();
        return listings.sendCatalog(exchange, query, this.#listable(caller));
      case 'upload':
        throw new RegistryError('UNSUPPORTED', undefined, { Allow: 'GET, HEAD' });
      default: {
        const route = this.#route(exchange, target.name, query);
        const asking = callers.admit(exchange, route, target, caller);
        if (asking === undefined) return this.#send(exchange, route, target, query);
        return asking.then(() => this.#send(exchange, route, target, query));
      }
    }
  }

  #send(
    exchange: Exchange,
    route: Route,
    target: ContentTarget,
    query: URLSearchParams | undefined,
  ): Promise<void> | undefined {
    const { manifests, blobs, listings } = this.options;
    switch (target.kind) {
      case 'manifest':
        if (manifests.sendRemembered(exchange, route, target.reference)) return undefined;
        return manifests.send(exchange, route, target.reference);
      case 'blob':
        return blobs.send(exchange, route, target.reference);
      case 'tags':
        return listings.sendTags(exchange, route, target.name, query);
      case 'referrers':
        return listings.sendReferrers(exchange, route, target.reference, query);
    }
  }

  /** What the catalogue may show; `undefined`: all. */
  #listable(caller: Caller | undefined): ListingFilter | undefined {
    const { control } = this.options;
    if (control === undefined || caller === undefined) return undefined;
    return (stored) => control.mayList(caller, stored);
  }

  #hostOf({ request }: Exchange, query: URLSearchParams | undefined): string | undefined {
    const ns = query?.get('ns') ?? undefined;
    return this.options.directory.hostOf({ ns, hostHeader: request.headers.host });
  }

  #route(exchange: Exchange, name: string, query: URLSearchParams | undefined): Route {
    const ns = query?.get('ns') ?? undefined;
    const route = this.options.directory.route({ ns, hostHeader: exchange.request.headers.host, name });
    exchange.upstream = route.host;
    return route;
  }

  #fail(exchange: Exchange, error: unknown): void {
    exchange.failure = error;
    const { response } = exchange;
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    sendError(exchange, toRegistryError(error, exchange.handler));
  }
}

const handlerNames: Readonly<Record<Target['kind'], HandlerName>> = {
  base: 'base',
  catalog: 'catalog',
  manifest: 'manifest',
  blob: 'blob',
  tags: 'tags',
  referrers: 'referrers',
  upload: 'blob_upload',
};

function handlerOf(target: Target | undefined): HandlerName {
  return target === undefined ? 'unknown' : handlerNames[target.kind];
}
