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
    const { request, response, handler } = exchange;
    const seconds = (performance.now() - exchange.started) / 1000;
    this.metrics.requests.end(handler);
    const received = Number(request.headers['content-length'] ?? 0) || 0;
    this.#tallyOf(exchange).count(seconds, received, exchange.sent);
    this.#countContent(exchange);
    if (!this.logRequests) return;
    const { failure } = exchange;
    const facts = { ...standingFacts(exchange), ...passingFacts(exchange.id, request.socket, seconds) };
    const complete = response.writableFinished;
    if (complete && failure === undefined) this.log.info(facts, completed);
    else if (complete) this.log.info({ ...facts, err: failure }, 'response completed with error');
    else if (failure === undefined || failure instanceof ClientGone) this.log.info(facts, left);
    else this.log.error({ ...facts, err: failure }, 'response cut');
  }

  /** What all answers have in common that are given again to the same request as this one. */
  repeat(exchange: Exchange): RepeatedAnswer {
    const { handler, outcome, upstream, sent } = exchange;
    return {
      tally: this.#tallyOf(exchange),
      content: { handler, outcome, upstream, sent },
      log: this.logRequests ? this.log.child(standingFacts(exchange)) : undefined,
    };
  }

  /** The same as `end`, of an answer that was given again. */
  endRepeated(
    { tally, content, log }: RepeatedAnswer,
    id: string,
    socket: Socket,
    started: number,
    complete: boolean,
  ): void {
    const seconds = (performance.now() - started) / 1000;
    tally.count(seconds, 0, content.sent);
    this.#countContent(content);
    log?.info(passingFacts(id, socket, seconds), complete ? completed : left);
  }

  #tallyOf({ request, response, handler }: Exchange): RequestTally {
    return this.metrics.requests.of(
      handler,
      knownMethod((request.method ?? '').toLowerCase()),
      response.statusCode,
    );
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
  readonly content: AnsweredContent;
  /** With what is the same in each line; `undefined`: none is written. */
  readonly log: Logger | undefined;
}

type AnsweredContent = Pick<Exchange, 'handler' | 'outcome' | 'upstream' | 'sent'>;

const completed = 'response completed';
const left = 'client left';

/** What an access line says of the same request however often it comes. The names of the fields are registry:2's. */
function standingFacts({ request, response, sent, outcome, upstream, user, traceId }: Exchange): LogFacts {
  return {
    'http.request.method': request.method,
    'http.request.host': request.headers.host,
    'http.request.uri': (request.url ?? '').slice(0, longestLogged),
    'http.request.useragent': request.headers['user-agent']?.slice(0, longestLogged),
    'http.response.status': response.statusCode,
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
function knownMethod(method: string): string {
  return ['get', 'head', 'put', 'post', 'patch', 'delete', 'options'].includes(method) ? method : 'other';
}
