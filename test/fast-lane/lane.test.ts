import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access } from '../../src/registry/access.js';
import { ClientAddresses } from '../../src/registry/client-address.js';
import { Exchange } from '../../src/registry/exchange.js';
import { FastLane, idHeader } from '../../src/registry/fast-lane.js';
import { HeldAnswers } from '../../src/registry/held-answers.js';
import { Limits } from '../../src/registry/limits.js';
import { sendBytes, sendHead } from '../../src/registry/reply.js';
import { createLogger } from '../../src/telemetry/log.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { dial } from '../hostile/raw.js';
import { converse, repeated, request } from './conversation.js';
import { patience } from '../parts/patience.js';

const idleMs = 5_000;
const wanted = request('/v2/team/app/blobs/x');

/** A server with a lane, whose handler answers everything with the same. */
class Handler implements AsyncDisposable {
  readonly metrics = new Metrics();
  readonly #addresses = new ClientAddresses([]);
  readonly limits = new Limits({ requests: 1, rate: undefined, burst: 1, urlsize: 1_000 }, this.#addresses);
  readonly lane: FastLane;
  readonly sockets: Socket[] = [];
  handled = 0;
  body = Buffer.from('content');
  place: string | undefined;
  until = Infinity;
  /** Whether something changes while the next answer is on its way. */
  changes = false;
  readonly #server: Server;

  constructor() {
    const log = createLogger({ level: 'error', formatter: 'json', fields: {} });
    const access = new Access(this.metrics, log, false);
    const { limits } = this;
    const heldAnswers = new HeldAnswers(this.#addresses);
    const options = { lifetimeMs: 60_000, idleMs, stalledMs: 60_000, access, limits, heldAnswers };
    this.lane = new FastLane(options);
    this.#server = createServer({ keepAliveTimeout: idleMs }, (incoming, response) => {
      this.handled += 1;
      const exchange = new Exchange(incoming, response, access.newId(undefined), heldAnswers);
      exchange.handler = 'blob';
      access.begin('blob');
      response.once('close', () => access.end(exchange));
      this.lane.follow(exchange);
      response.setHeader(idHeader, exchange.id);
      if (this.place === undefined) sendBytes(exchange, 200, this.body, {});
      else sendHead(exchange, 307, { 'Content-Length': 0, Location: this.place });
      const body = this.place === undefined ? this.body : undefined;
      exchange.repeatable = { body, until: this.until };
      if (this.changes) this.lane.forget();
      this.changes = false;
    });
    this.#server.on('connection', (socket) => {
      this.sockets.push(socket);
      this.lane.watch(socket);
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

describe('the fast lane', () => {
  let handler: Handler;
  let url: string;
  beforeEach(async () => {
    handler = new Handler();
    url = await handler.listen();
  });
  afterEach(() => handler[Symbol.asyncDispose]());

  it('has an answer that was asked for twice', async () => {
    await converse(url, repeated(wanted, 10));
    expect(handler.handled).toBe(2);
    await converse(url, repeated(wanted, 10));
    // The first on each connection is the server's, so that it knows of a client that says nothing.
    expect(handler.handled).toBe(3);
  });

  it('tells requests apart by all of their bytes', async () => {
    await converse(url, repeated(wanted, 5));
    await converse(url, repeated(wanted.replace('mirror.test', 'other.test'), 5));
    await converse(url, repeated(wanted.replace('GET', 'HEAD'), 5));
    expect(handler.handled).toBe(6);
  });

  it.each([
    'Range: bytes=0-',
    'If-None-Match: x',
    'Authorization: Basic eDp5',
    'Cookie: a',
    'X-Request-Id: a',
  ])('leaves requests with %s to the handler', async (header) => {
    await converse(url, repeated(request('/v2/team/app/blobs/x', [header]), 5));
    expect(handler.handled).toBe(5);
  });

  it('sends whoever asks again to the same place', async () => {
    handler.place = 'http://bucket.test/object?signature=x';
    const answers = await converse(url, repeated(wanted, 10));
    expect(handler.handled).toBe(2);
    expect(answers.match(/^HTTP\/1\.1 307 Temporary Redirect\r$/gm)).toHaveLength(10);
    expect(answers.match(/^Location: http:\/\/bucket\.test\/object\?signature=x\r$/gm)).toHaveLength(10);
  });

  it('keeps no answer beyond the time for which the handler knows it to be right', async () => {
    handler.until = performance.now();
    await converse(url, repeated(wanted, 5));
    expect(handler.handled).toBe(5);
  });

  it('has nothing left when something has changed, nor when it is closed', async () => {
    const one = { bytes: wanted, completes: ['GET'] };
    await converse(url, [
      ...repeated(wanted, 5),
      { ...one, first: () => handler.lane.forget() },
      ...repeated(wanted, 5),
      { ...one, first: () => handler.lane.close() },
      ...repeated(wanted, 5),
    ]);
    expect(handler.handled).toBe(2 + 1 + 6);
  });

  it('learns nothing from an answer that was made before something changed', async () => {
    const forget = { bytes: wanted, completes: ['GET'], first: () => (handler.changes = true) };
    await converse(url, [...repeated(wanted, 1), forget, ...repeated(wanted, 5)]);
    expect(handler.handled).toBe(3);
  });

  it('is shut while as many requests are answered as may be', async () => {
    await converse(url, repeated(wanted, 5));
    const response = { closed: false, once: () => undefined };
    handler.limits.hold({ request: { headers: {}, socket: {} }, response } as never);
    await converse(url, repeated(wanted, 5));
    expect(handler.handled).toBe(7);
  });

  it.each([
    ['alone', '', []],
    ['behind another request', wanted, ['GET']],
  ] as const)(
    'takes the end of a request, begun %s, for no request, whatever it looks like',
    async (_, before, completes) => {
      await converse(url, repeated(wanted, 5));
      await converse(url, [
        ...repeated(wanted, 2),
        { bytes: `${before}GET /v2/other HTTP/1.1\r\nHost: mirror.test\r\nX-Rest: `, completes },
        { bytes: wanted, completes: ['GET'] },
        ...repeated(wanted, 2),
      ]);
      // After it the lane cannot know any more where requests begin, and leaves all to the server.
      expect(handler.handled).toBe(2 + 1 + completes.length + 1 + 2);
    },
  );

  /** A connection whose client has asked until its buffers were full of answers of the lane. */
  async function fill() {
    handler.body = Buffer.alloc(100_000, 'x');
    await converse(url, repeated(wanted, 5));
    const { socket, [Symbol.dispose]: dispose } = await dial(url);
    const [, server] = handler.sockets;
    const full = { socket, server, received: 0, asked: 1, [Symbol.dispose]: dispose };
    socket.on('data', (text: string) => (full.received += text.length));
    socket.write(wanted);
    await expect.poll(() => full.received).toBeGreaterThan(100_000);
    socket.pause();
    const isFull = (): boolean => server !== undefined && server.writableLength > 0;
    for (; !isFull() && full.asked < 1_000; full.asked += 1) {
      const read = server?.bytesRead ?? 0;
      socket.write(wanted);
      await expect.poll(() => server?.bytesRead, { interval: 1 }).toBeGreaterThan(read);
    }
    expect(isFull()).toBe(true);
    return full;
  }

  it('counts an answer with status 499 whose client leaves before its end', async () => {
    using full = await fill();
    full.socket.resetAndDestroy();
    await expect
      .poll(() => handler.metrics.registry.metrics())
      .toContain('registry_http_requests_total{handler="blob",method="get",code="499"} 1');
  });

  it('answers nothing while a client has not taken the last answer, which counts as being sent until then', async () => {
    using full = await fill();
    const { socket, server } = full;
    expect(server?.timeout).toBe(60_000);
    const before = handler.handled;
    const cut = AbortSignal.timeout(50);
    await handler.lane.sent(cut);
    expect(cut.aborted).toBe(true);
    socket.write(wanted);
    await expect.poll(() => handler.handled).toBe(before + 1);
    socket.resume();
    await handler.lane.sent(patience());
    await expect.poll(() => full.received).toBeGreaterThan((full.asked + 1) * 100_000);
    await expect.poll(() => server?.timeout).toBeLessThan(60_000);
  });

  it('counts its answers as the handler does', async () => {
    await converse(url, repeated(wanted, 20));
    const text = await handler.metrics.registry.metrics();
    expect(text).toContain('registry_http_requests_total{handler="blob",method="get",code="200"} 20');
    expect(text).toContain('registry_http_request_duration_seconds_count{handler="blob",method="get"} 20');
    expect(text).toContain('registry_http_response_size_bytes_sum{handler="blob"} 140');
    expect(text).toContain('registry_http_in_flight_requests{handler="blob"} 0');
  });
});
