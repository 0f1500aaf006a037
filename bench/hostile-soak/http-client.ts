import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';

export interface AskOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The source address. The mirror counts clients by it. */
  readonly from: string;
  /** The client resets its connection when this aborts. */
  readonly leave?: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/**
 * Why an answer is incomplete. `silent`: no bytes arrived for {@link silenceMs}. `endless`: the answer had not ended
 * after {@link wholeMs}, or was larger than any content of the run. `cut`: the mirror closed or refused the connection,
 * or the client disconnected.
 */
export type Missing = 'silent' | 'endless' | 'cut';

export class NoAnswer extends Error {
  override readonly name = 'NoAnswer';
  readonly code = 'no-answer';

  constructor(
    message: string,
    readonly why: Missing,
  ) {
    super(message);
  }
}

const silenceMs = 60_000;
const wholeMs = 120_000;
const largest = 64 * 1024 * 1024;

/** Sends one request on a new connection and reads the whole answer. Throws {@link NoAnswer} if it is incomplete. */
export async function ask(url: string, options: AskOptions): Promise<Reply> {
  const { method = 'GET', headers = {}, from, leave } = options;
  const given = new AbortController();
  let why: Missing = 'cut';
  const giveUp = (reason: Missing): void => {
    why = reason;
    given.abort();
  };
  const silence = setTimeout(giveUp, silenceMs, 'silent');
  const whole = setTimeout(giveUp, wholeMs, 'endless');
  const signal = leave === undefined ? given.signal : AbortSignal.any([given.signal, leave]);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  let received = 0;
  try {
    request(url, { method, headers, agent: false, localAddress: from, signal }, resolve)
      .on('error', reject)
      .end();
    const response = await promise;
    const chunks: Buffer[] = [];
    for await (const chunk of response as AsyncIterable<Buffer>) {
      silence.refresh();
      chunks.push(chunk);
      received += chunk.byteLength;
      if (received > largest) giveUp('endless');
    }
    return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
  } catch (error) {
    throw new NoAnswer(`${method} ${url}: ${why}, ${received} bytes received: ${String(error)}`, why);
  } finally {
    clearTimeout(silence);
    clearTimeout(whole);
  }
}
