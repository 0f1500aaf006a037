import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';

export interface DockerAnswers {
  /** By path, without its query; what is not there is answered with 404. */
  [path: string]: unknown;
}

/** Docker's Engine API on a socket: what it is told to answer, until it is told otherwise. */
export class FakeDocker implements AsyncDisposable {
  /** With their queries. */
  readonly requests: string[] = [];
  #server: Server | undefined;

  constructor(
    readonly socket: string,
    readonly answers: DockerAnswers,
  ) {}

  async up(): Promise<void> {
    const server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://docker');
      this.requests.push(url.pathname + url.search);
      const answer = this.answers[url.pathname];
      response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer ?? { message: 'page not found' }));
    });
    server.listen(this.socket);
    await once(server, 'listening');
    this.#server = server;
  }

  async down(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(this.socket, { force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }
}
