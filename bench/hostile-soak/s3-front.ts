import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request as send, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { LoopbackServer } from '../../test/fakes/loopback-server.js';

const forbidden =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidObjectState</Code>' +
  '<Message>The operation is not valid for the storage class of the object</Message></Error>';
const busy =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>';

/** A proxy in front of the gateway. It passes the Host header on, so signatures stay valid. */
export class S3Front implements AsyncDisposable {
  /** HEAD succeeds and GET fails for keys that contain one of these, as in a cold storage class. */
  readonly unreadable = new Set<string>();
  /** How many of the next requests get 503 `SlowDown`. */
  slowDowns = 0;
  /** The delay before each answer, in milliseconds. */
  delayMs = 0;
  readonly counts = { passed: 0, forbidden: 0, slowDown: 0 };

  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 });
  readonly #server = new LoopbackServer(() =>
    createServer((request, response) => void this.#serve(request, response)),
  );

  private constructor(private readonly target: string) {}

  static async start(target: string): Promise<S3Front> {
    const front = new S3Front(target);
    await front.#server.up();
    return front;
  }

  get url(): string {
    return `http://${this.#server.host}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.down();
    this.#agent.destroy();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined); // the client disconnected
    if (this.delayMs > 0) {
      const timer = setTimeout(() => response.emit('answer-now'), this.delayMs);
      await Promise.race([once(response, 'answer-now'), once(response, 'close')]);
      clearTimeout(timer);
    }
    if (response.destroyed) return;
    const refusal = this.#refusal(request);
    if (refusal === undefined) return this.#pass(request, response);
    request.resume();
    response.writeHead(refusal.status, { 'content-type': 'application/xml' }).end(refusal.body);
  }

  #refusal({ method, url = '' }: IncomingMessage): { status: number; body: string } | undefined {
    const path = decodeURIComponent(url.replace(/\?.*/, ''));
    if (method === 'GET' && [...this.unreadable].some((part) => path.includes(part))) {
      this.counts.forbidden += 1;
      return { status: 403, body: forbidden };
    }
    if (this.slowDowns === 0) return undefined;
    this.slowDowns -= 1;
    this.counts.slowDown += 1;
    return { status: 503, body: busy };
  }

  #pass(request: IncomingMessage, response: ServerResponse): void {
    this.counts.passed += 1;
    const { method, url, headers } = request;
    const { hostname, port } = new URL(this.target);
    const onward = send({ hostname, port, path: url, method, headers, agent: this.#agent }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      pipeline(answer, response, () => undefined);
    });
    onward.once('error', () => response.destroy());
    response.once('close', () => onward.destroy());
    request.pipe(onward);
  }
}
