import { once } from 'node:events';
import {
  createServer,
  request as send,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export interface S3Request {
  readonly method: string;
  /** With the bucket. */
  readonly path: string;
  readonly query: URLSearchParams;
  status: number | undefined;
}

/** Stands before an S3 server and remembers what it is asked. Signatures stay valid: the Host header is passed on. */
export class S3Counter implements AsyncDisposable {
  readonly requests: S3Request[] = [];
  /** Answers that the server gave and the client does not get. */
  cutAnswers: (request: S3Request) => boolean = () => false;
  /** How many of them there were. */
  cut = 0;
  /** Requests without a body that reach the server only when this resolves, also when the client has left. */
  delay: (request: S3Request) => Promise<void> | undefined = () => undefined;
  /** Whether HEAD of this object succeeds and GET fails, as in a cold storage class. */
  isArchived: (request: S3Request) => boolean = () => false;
  /** The storage class that HEAD of such an object names; `undefined` if it names none. */
  storageClass: string | undefined;
  /** The server gets a request when this has resolved. */
  hold: (request: S3Request) => Promise<void> | undefined = () => undefined;
  /** Requests whose client left while they were held. */
  left = 0;
  readonly #server: Server;

  private constructor(private readonly target: string) {
    this.#server = createServer((request, response) => this.#pass(request, response));
  }

  static async start(target: string): Promise<S3Counter> {
    const counter = new S3Counter(target);
    counter.#server.listen(0, '127.0.0.1');
    await once(counter.#server, 'listening');
    return counter;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How often a listing was asked for. */
  lists(): number {
    return this.requests.filter(({ method, query }) => method === 'GET' && query.has('list-type')).length;
  }

  /** Those for content: jobs and records have their own times. */
  ofContent(): S3Request[] {
    return this.requests.filter(({ path }) => path.includes('/docker/registry/v2/'));
  }

  /** Parts of multipart uploads that were taken. */
  parts(): S3Request[] {
    return this.requests.filter(
      ({ method, query, status }) => method === 'PUT' && query.has('partNumber') && status === 200,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  #pass(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', this.target);
    const { method = '' } = request;
    const record: S3Request = { method, path: url.pathname, query: url.searchParams, status: undefined };
    this.requests.push(record);
    const held = this.hold(record);
    if (held === undefined) this.#forward(record, request, response);
    else void this.#waitFor(held, response).then(() => this.#forward(record, request, response));
  }

  /** Never resolves where the client leaves. */
  #waitFor(held: Promise<void>, response: ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      const leave = (): void => {
        this.left += 1;
      };
      response.once('close', leave);
      void held.then(() => {
        response.off('close', leave);
        if (!response.destroyed) resolve();
      });
    });
  }

  #forward(record: S3Request, request: IncomingMessage, response: ServerResponse): void {
    const { method } = record;
    const onward = send(this.target, { method, path: request.url, headers: request.headers }, (answer) => {
      record.status = answer.statusCode;
      if (answer.statusCode === 200 && this.isArchived(record)) {
        if (method === 'HEAD' && this.storageClass !== undefined) {
          answer.rawHeaders.push('x-amz-storage-class', this.storageClass);
        }
        if (method === 'GET') {
          record.status = 403;
          answer.resume();
          response.writeHead(403, { 'content-type': 'application/xml' });
          response.end('<Error><Code>InvalidObjectState</Code></Error>');
          return;
        }
      }
      if (this.cutAnswers(record)) {
        this.cut += 1;
        answer.resume();
        answer.once('end', () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(response);
      answer.once('error', () => response.destroy());
    });
    onward.once('error', () => response.destroy());
    const delayed = this.delay(record);
    if (delayed === undefined) {
      response.once('close', () => onward.destroy());
      request.pipe(onward);
    } else void delayed.then(() => onward.end());
  }
}
