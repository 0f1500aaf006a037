import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import { dataFrame, frameHead, messageFrame } from '../../src/cluster/peers/frames.js';
import { PeerError, readPeer } from '../../src/cluster/peers/peer-client.js';
import { Seal } from '../../src/cluster/peers/seal.js';
import { digestOf } from '../../src/oci/digest.js';
import { freePort } from '../parts/ports.js';

const digest = digestOf(Buffer.from('blob'));
const attempt = 'a'.repeat(32);
const seal = new Seal('secret');

type Says = (response: ServerResponse, nonce: string) => void;

function send(response: ServerResponse, type: number, text: string): void {
  response.write(Buffer.concat([frameHead(type, Buffer.byteLength(text)), Buffer.from(text)]));
}
const say = (response: ServerResponse, nonce: string, sequence: number, message: unknown): void => {
  const text = JSON.stringify(message);
  send(response, messageFrame, `${seal.message(nonce, sequence, text)} ${text}`);
};
const complete = { kind: 'complete', size: 4 };

describe('what a replica takes from another', () => {
  const closing = new AsyncDisposableStack();
  afterAll(() => closing.disposeAsync());

  async function peerThat(says: Says): Promise<string> {
    const server = createServer((request, response) => {
      says(response, / ([a-f0-9]{32}) /.exec(request.headers.authorization ?? '')?.[1] ?? '');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.defer(() => {
      server.close();
      server.closeAllConnections();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  /** What came, and the code of the error that ended it. */
  async function read(url: string, signal = new AbortController().signal) {
    let bytes = '';
    try {
      for await (const event of readPeer({ url, attempt }, digest, 0, seal, signal, { answerMs: 500 })) {
        if ('bytes' in event) bytes += event.bytes.toString();
      }
      return { bytes, end: 'complete' };
    } catch (error) {
      return { bytes, end: error instanceof PeerError ? error.code : error };
    }
  }

  it.each<[string, Says, object]>([
    [
      'ends where the other says so, under seal',
      (response, nonce) => {
        send(response, dataFrame, 'blob');
        say(response, nonce, 0, complete);
      },
      { bytes: 'blob', end: 'complete' },
    ],
    [
      'does not end with the connection',
      (response) => {
        send(response, dataFrame, 'bl');
        response.end();
      },
      { bytes: 'bl', end: 'broken' },
    ],
    [
      'does not end with a reset',
      (response) => {
        send(response, dataFrame, 'bl');
        setImmediate(() => response.socket?.resetAndDestroy());
      },
      { end: 'broken' },
    ],
    [
      'believes no end that another secret sealed',
      (response, nonce) => {
        const text = JSON.stringify(complete);
        send(response, messageFrame, `${new Seal('other').message(nonce, 0, text)} ${text}`);
      },
      { end: 'invalid' },
    ],
    [
      'believes no message of another stream',
      (response) => say(response, '0'.repeat(32), 0, complete),
      { end: 'invalid' },
    ],
    [
      'believes no message twice',
      (response, nonce) => {
        const alive = { kind: 'alive', length: 0, repositories: [] };
        say(response, nonce, 0, alive);
        say(response, nonce, 0, alive);
      },
      { end: 'invalid' },
    ],
    ['takes no other kinds of frames', (response) => send(response, 9, 'what'), { end: 'invalid' }],
    [
      'is told of a failure',
      (response, nonce) => say(response, nonce, 0, { kind: 'failed', reason: 'disk full' }),
      { end: 'failed' },
    ],
    [
      'takes no sealed message of another form',
      (response, nonce) => say(response, nonce, 0, { kind: 'alive', length: 0 }),
      { end: 'invalid' },
    ],
    ['is refused', (response) => response.writeHead(403).end(), { end: 'refused' }],
    ['comes too late', (response) => response.writeHead(404).end(), { end: 'gone' }],
    ['gets no answer', () => undefined, { end: 'unreachable' }],
  ])('%s', async (_title, says, wanted) => {
    expect(await read(await peerThat(says))).toMatchObject(wanted);
  });

  it('finds nobody', async () => {
    expect(await read(`http://127.0.0.1:${await freePort()}`)).toEqual({ bytes: '', end: 'unreachable' });
  });

  it('leaves when it is told to', async () => {
    const leave = new AbortController();
    const reason = new Error('left');
    const url = await peerThat((response) => {
      response.writeHead(200);
      send(response, dataFrame, 'bl');
      setImmediate(() => leave.abort(reason));
    });
    expect(await read(url, leave.signal)).toMatchObject({ end: reason });
  });
});
