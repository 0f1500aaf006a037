import { randomBytes } from 'node:crypto';
import type { Outcome } from '../proxy/proxy.js';
import type { Logger } from '../telemetry/log.js';
import type { ContentType, Metrics } from '../telemetry/metrics.js';
import { ClientGone, type Exchange, type HandlerName } from './exchange.js';

const longestLogged = 512;

/** The access line and the metrics of each request: once, when its answer is over. */
export class Access {
  readonly #idPrefix = randomBytes(6).toString('hex');
  #requests = 0;

  constructor(
    private readonly metrics: Metrics,
    private readonly log: Logger,
    private readonly logRequests: boolean,
  ) {}

  /** Unique over replicas and restarts; a proxy's own id is kept, so that its log and ours can be joined. */
  newId(given: string | string[] | undefined): string {
    if (typeof given === 'string' && /^[\w.:+/=-]{1,64}$/.test(given)) return given;
    this.#requests += 1;
    return `${this.#idPrefix}-${this.#requests.toString(36)}`;
  }

  begin(handler: HandlerName): void {
    this.metrics.httpInFlight.inc({ handler });
  }

  end(exchange: Exchange): void {
    const { request, response, handler, outcome } = exchange;
    const seconds = (performance.now() - exchange.started) / 1000;
    const method = (request.method ?? '').toLowerCase();
    const { metrics } = this;
    metrics.httpInFlight.dec({ handler });
    metrics.httpRequests.inc({ handler, method: knownMethod(method), code: response.statusCode });
    metrics.httpDuration.observe({ handler, method: knownMethod(method) }, seconds);
    metrics.httpRequestSize.observe({ handler }, Number(request.headers['content-length'] ?? 0) || 0);
    metrics.httpResponseSize.observe({ handler }, exchange.sent);
    if (outcome !== undefined && (handler === 'blob' || handler === 'manifest')) {
      this.#countContent(handler, outcome, exchange);
    }
    if (this.logRequests) this.#logRequest(exchange, seconds);
  }

  #countContent(type: ContentType, outcome: Outcome, { upstream, sent }: Exchange): void {
    if (upstream !== undefined) this.metrics.answers.count(upstream, type, outcome, sent);
    this.metrics.proxyRequests.inc({ type });
    if (outcome === 'miss') this.metrics.proxyMisses.inc({ type });
    else this.metrics.proxyHits.inc({ type });
    if (sent > 0) this.metrics.proxyPushedBytes.inc({ type }, sent);
  }

  /** The names of the fields are registry:2's. */
  #logRequest(exchange: Exchange, seconds: number): void {
    const { request, response, failure } = exchange;
    const complete = response.writableFinished;
    const facts = {
      'http.request.id': exchange.id,
      'http.request.method': request.method,
      'http.request.host': request.headers.host,
      'http.request.uri': (request.url ?? '').slice(0, longestLogged),
      'http.request.remoteaddr': request.socket.remoteAddress,
      'http.request.useragent': request.headers['user-agent']?.slice(0, longestLogged),
      'http.response.status': response.statusCode,
      'http.response.written': exchange.sent,
      'http.response.duration': `${(seconds * 1000).toFixed(3)}ms`,
      ...(exchange.outcome === undefined ? {} : { cache: exchange.outcome }),
      ...(exchange.upstream === undefined ? {} : { upstream: exchange.upstream }),
      ...(exchange.user === undefined ? {} : { user: exchange.user }),
      ...(exchange.traceId === undefined ? {} : { trace_id: exchange.traceId }),
    };
    if (complete && failure === undefined) this.log.info(facts, 'response completed');
    else if (complete) this.log.info({ ...facts, err: failure }, 'response completed with error');
    else if (failure === undefined || failure instanceof ClientGone) this.log.info(facts, 'client left');
    else this.log.error({ ...facts, err: failure }, 'response cut');
  }
}

/** A method is a label, and clients can send any word. */
function knownMethod(method: string): string {
  return ['get', 'head', 'put', 'post', 'patch', 'delete', 'options'].includes(method) ? method : 'other';
}
