import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { RequestTally } from '../telemetry/request-tallies.js';
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
    this.metrics.requests.begin(handler);
  }

  end(exchange: Exchange): void {
    const { request, response, handler, failure } = exchange;
    const seconds = (performance.now() - exchange.started) / 1000;
    this.metrics.requests.end(handler);
    const complete = response.writableFinished;
    const isLeft = !complete && (failure === undefined || failure instanceof ClientGone);
    // An answer that was an error anyway stays one.
    const status = isLeft && response.statusCode < 400 ? clientLeft : response.statusCode;
    const received = Number(request.headers['content-length'] ?? 0) || 0;
    this.metrics.requests.of(handler, methodOf(exchange), status).count(seconds, received, exchange.sent);
    this.#countContent(exchange);
    if (!this.logRequests) return;
    const facts = {
      ...standingFacts(exchange, status),
      ...passingFacts(exchange.id, request.socket, seconds),
    };
    if (complete && failure === undefined) this.log.info(facts, completed);
    else if (complete) this.log.info({ ...facts, err: failure }, 'response completed with error');
    else if (isLeft) this.log.info(facts, left);
    else this.log.error({ ...facts, err: failure }, 'response cut');
  }

  /** What all answers have in common that are given again to the same request as this one. */
  repeat(exchange: Exchange): RepeatedAnswer {
    const { handler, outcome, upstream, sent, response } = exchange;
    const facts = standingFacts(exchange, response.statusCode);
    const method = methodOf(exchange);
    return {
      tally: this.metrics.requests.of(handler, method, response.statusCode),
      method,
      content: { handler, outcome, upstream, sent },
      facts,
      log: this.logRequests ? this.log.child(facts) : undefined,
    };
  }

  /** The same as `end`, of an answer that was given again. */
  endRepeated(
    { tally, method, content, facts, log }: RepeatedAnswer,
    id: string,
    socket: Socket,
    started: number,
    complete: boolean,
  ): void {
    const seconds = (performance.now() - started) / 1000;
    const counted = complete ? tally : this.metrics.requests.of(content.handler, method, clientLeft);
    counted.count(seconds, 0, content.sent);
    this.#countContent(content);
    if (log === undefined) return;
    const passing = passingFacts(id, socket, seconds);
    if (complete) log.info(passing, completed);
    else this.log.info({ ...facts, 'http.response.status': clientLeft, ...passing }, left);
  }

  #countContent({ handler, outcome, upstream, sent }: AnsweredContent): void {
    if (outcome === undefined || upstream === undefined) return;
    if (handler === 'blob' || handler === 'manifest')
      this.metrics.answers.count(upstream, handler, outcome, sent);
  }
}

/** What is known of an answer before it is given again. */
export interface RepeatedAnswer {
  readonly tally: RequestTally;
  readonly method: string;
  readonly content: AnsweredContent;
  readonly facts: LogFacts;
  /** With what is the same in each line; `undefined`: none is written. */
  readonly log: Logger | undefined;
}

type AnsweredContent = Pick<Exchange, 'handler' | 'outcome' | 'upstream' | 'sent'>;

/** The status of an answer whose client left before its end; nginx' number, of no specification. */
const clientLeft = 499;

const completed = 'response completed';
const left = 'client left';

/** What an access line says of the same request however often it comes. The names of the fields are registry:2's. */
function standingFacts(
  { request, sent, outcome, upstream, user, traceId }: Exchange,
  status: number,
): LogFacts {
  return {
    'http.request.method': request.method,
    'http.request.host': request.headers.host,
    'http.request.uri': (request.url ?? '').slice(0, longestLogged),
    'http.request.useragent': request.headers['user-agent']?.slice(0, longestLogged),
    'http.response.status': status,
    'http.response.written': sent,
    ...(outcome === undefined ? {} : { cache: outcome }),
    ...(upstream === undefined ? {} : { upstream }),
    ...(user === undefined ? {} : { user }),
    ...(traceId === undefined ? {} : { trace_id: traceId }),
  };
}

/** What is of this request alone. */
function passingFacts(id: string, { remoteAddress }: Socket, seconds: number): LogFacts {
  return {
    'http.request.id': id,
    'http.request.remoteaddr': remoteAddress,
    'http.response.duration': `${(seconds * 1000).toFixed(3)}ms`,
  };
}

type LogFacts = Readonly<Record<string, string | number | undefined>>;

/** A method is a label, and clients can send any word. */
function methodOf({ request }: Exchange): string {
  const method = (request.method ?? '').toLowerCase();
  return ['get', 'head', 'put', 'post', 'patch', 'delete', 'options'].includes(method) ? method : 'other';
}
