import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BodySender, BodyStalled, WrongLength } from './body-sender.js';
import { ClientAddresses } from './client-address.js';
import { Exchange } from './exchange.js';
import { HeldAnswers } from './held-answers.js';

const forEver = 600_000;
const MiB = 1024 * 1024;

describe('the sender of bodies', () => {
  let server: Server;
  let sender: BodySender;
  let body: (exchange: Exchange) => AsyncIterable<Uint8Array>;
  let length: number | undefined;
  /** How the sender ended: with the error, or without. */
  let sent: PromiseWithResolvers<unknown>;
  let exchange: Exchange;

  beforeEach(async () => {
    sent = Promise.withResolvers();
    length = undefined;
    server = createServer((incoming, response) => {
      exchange = new Exchange(incoming, response, 'id', new HeldAnswers(new ClientAddresses([])));
      response.writeHead(200, length === undefined ? {} : { 'Content-Length': length });
      response.flushHeaders();
      sender.send(exchange, body(exchange), length).then(() => sent.resolve(undefined), sent.resolve);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  async function ask(): Promise<IncomingMessage> {
    const { port } = server.address() as AddressInfo;
    const asked = request({ port, host: '127.0.0.1', agent: false }).end();
    asked.on('error', () => undefined); // the response tells of it as well
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return response;
  }

  async function read(response: IncomingMessage): Promise<number> {
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).byteLength;
    return bytes;
  }

  it('cuts an answer before a body that is longer than announced looks whole', async () => {
    sender = new BodySender(forEver);
    length = 10;
    body = async function* () {
      yield Buffer.alloc(6);
      yield Buffer.alloc(5);
      await Promise.resolve();
    };
    await expect(read(await ask())).rejects.toThrow('aborted');
    expect(await sent.promise).toBeInstanceOf(WrongLength);
  });

  it('waits longer for a late body than for a client', async () => {
    sender = new BodySender(10, forEver);
    body = async function* ({ response }) {
      yield Buffer.alloc(6);
      await once(response, 'timeout');
      yield Buffer.alloc(5);
    };
    expect(await read(await ask())).toBe(11);
    expect(await sent.promise).toBeUndefined();
  });

  it('cuts an answer whose body gives nothing any more, and names the reason', async () => {
    sender = new BodySender(10, 10);
    body = async function* ({ signal }) {
      yield Buffer.alloc(6);
      await once(signal, 'abort');
      throw signal.reason;
    };
    await expect(read(await ask())).rejects.toThrow('aborted');
    await sent.promise;
    expect(exchange.failure).toBeInstanceOf(BodyStalled);
  });

  it('serves a client that takes longer for one chunk than a client may take nothing', async () => {
    const stalledMs = 2_000;
    sender = new BodySender(stalledMs);
    length = 256 * MiB;
    body = async function* () {
      yield Buffer.alloc(256 * MiB);
      await Promise.resolve();
    };
    const response = await ask();
    let bytes = 0;
    const begun = performance.now();
    // The system's buffers hold some megabytes: the client takes more than that at a time, and pauses in between.
    for await (const chunk of response) {
      bytes += (chunk as Buffer).byteLength;
      const isSlow = bytes < 200 * MiB && performance.now() - begun < 3 * stalledMs;
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(performance.now() - begun).toBeGreaterThan(stalledMs);
    expect(bytes).toBe(length);
    expect(await sent.promise).toBeUndefined();
  });
});
