import { setTimeout as delay } from 'node:timers/promises';
import { dial } from '../hostile/raw.js';

/** Bytes that a client sends at once, and how many answers it has when it goes on. */
export interface Step {
  readonly bytes: string;
  /** The methods of the requests that these bytes complete. */
  readonly completes: readonly string[];
  /** Done just before. */
  readonly first?: () => void;
}

/** Long enough that two writes reach the other side apart; if they do not, nothing fails that should not. */
const apartMs = 3;

/**
 * Says each step on one connection, and waits for its answers before the next. Returns all that came, until the other
 * side ended the connection or everything was said.
 */
export async function converse(url: string, steps: readonly Step[]): Promise<string> {
  using connection = await dial(url);
  const { socket } = connection;
  let received = '';
  const ended = new AbortController();
  let progress = Promise.withResolvers<void>();
  socket.on('data', (text: string) => {
    received += text;
    progress.resolve();
  });
  void connection.ended.then(() => {
    ended.abort();
    progress.resolve();
  });
  const expected: string[] = [];
  for (const { bytes, completes, first } of steps) {
    first?.();
    socket.write(bytes, 'latin1');
    expected.push(...completes);
    while (!ended.signal.aborted && !isWhole(received, expected)) {
      await progress.promise;
      progress = Promise.withResolvers<void>();
    }
    if (ended.signal.aborted) break;
    if (completes.length === 0) await delay(apartMs);
  }
  return received;
}

/** The answers to requests of these methods, one after the other; `undefined` while the last is not all there. */
export function answersIn(received: string, methods: readonly string[]): string[] | undefined {
  const answers: string[] = [];
  let rest = received;
  for (const method of methods) {
    const end = rest.indexOf('\r\n\r\n');
    if (end === -1) return undefined;
    const length =
      method === 'HEAD' ? 0 : Number(/\r\nContent-Length: (\d+)/i.exec(rest.slice(0, end))?.[1] ?? 0);
    const next = end + 4 + length;
    if (rest.length < next) return undefined;
    answers.push(rest.slice(0, next));
    rest = rest.slice(next);
  }
  return answers;
}

function isWhole(received: string, methods: readonly string[]): boolean {
  return answersIn(received, methods) !== undefined;
}

export function request(path: string, headers: readonly string[] = [], method = 'GET'): string {
  return [`${method} ${path} HTTP/1.1`, 'Host: mirror.test', ...headers, '', ''].join('\r\n');
}

/** The same request so often, each after the answer to the one before. */
export function repeated(bytes: string, times: number): Step[] {
  const method = bytes.slice(0, bytes.indexOf(' '));
  return Array.from({ length: times }, () => ({ bytes, completes: [method] }));
}
