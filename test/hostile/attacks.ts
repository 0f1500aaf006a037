import { SlowClient } from '../fakes/slow-client.js';
import { dial, get, type RawConnection } from './raw.js';

/** Enemies who do so until they are disposed of; how many connections each has is theirs. */
export type Attack = (target: Target) => Promise<Disposable[]>;

export interface Target {
  /** Of the mirror. */
  readonly url: string;
  /** Path of a stored blob that fills more than the kernel's buffers. */
  readonly blob: string;
  /** Path of a stored manifest. */
  readonly manifest: string;
  readonly idle: number;
}

function many(count: number, start: (index: number) => Promise<Disposable>): Promise<Disposable[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => start(index)));
}

/** Dials again whenever it is cut, and says this at once. */
function repeating(url: string, text: string): Promise<Disposable> {
  const stopped = new AbortController();
  let current: RawConnection | undefined;
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      current = await dial(url);
      current.socket.write(text, 'latin1');
      await current.ended;
    }
  };
  void loop();
  return Promise.resolve({
    [Symbol.dispose]: () => {
      stopped.abort();
      current?.[Symbol.dispose]();
    },
  });
}

const flood = Array.from({ length: 5_000 }, (_, index) => `X-Flood-${index}: ${'x'.repeat(20)}`);

export const attacks: readonly (readonly [string, Attack])[] = [
  // From many addresses: each has a share of the connections.
  ['idle connections', ({ url, idle }) => many(idle, (index) => dial(url, `127.0.3.${(index % 100) + 1}`))],
  [
    'slow headers',
    ({ url }) =>
      many(500, async () => {
        const connection = await dial(url);
        connection.socket.write('GET /v2/ HTTP/1.1\r\nHost: mirror\r\nX-Slow: ');
        const timer = setInterval(() => connection.socket.write('x'), 200);
        return {
          [Symbol.dispose]: () => {
            clearInterval(timer);
            connection[Symbol.dispose]();
          },
        };
      }),
  ],
  [
    'slow reads',
    ({ url, blob }) =>
      many(200, async () => {
        const client = new SlowClient(url + blob, { pauseAfter: 16_384 });
        await client.received(16_384);
        return client;
      }),
  ],
  ['header floods', ({ url }) => many(20, () => repeating(url, get('/v2/', flood)))],
  [
    'pipelined garbage',
    ({ url }) =>
      many(20, () =>
        repeating(url, `${'GET /v2/ HTTP/1.1\r\nHost: m\r\n\r\n'.repeat(500)}\0\u00ffnonsense\r\n\r\n`),
      ),
  ],
  [
    'answers that nobody reads',
    ({ url, manifest }) =>
      many(50, async () => {
        const connection = await dial(url);
        connection.socket.pause();
        connection.socket.write(`GET ${manifest} HTTP/1.1\r\nHost: m\r\n\r\n`.repeat(200));
        return connection;
      }),
  ],
];
