import { request, type IncomingMessage } from 'node:http';
import { readAtMost, TooLong } from '../memory/read-at-most.js';

const silenceMs = 30_000;
/** Of thousands of tasks. */
const longestAnswer = 64 * 1024 * 1024;

export type DockerCode =
  | 'unreachable' // no socket, nobody behind it, or no answer in time
  | 'refused' // an answer with another status than 200
  | 'invalid'; // an answer that is not the API's

export class DockerError extends Error {
  override readonly name = 'DockerError';
  constructor(
    readonly code: DockerCode,
    message: string,
    readonly status?: number,
  ) {
    super(message);
  }
}

/** Docker's Engine API over its socket, as far as it is read here; every version that speaks of Swarm answers alike. */
export class DockerApi {
  constructor(private readonly socket: string) {}

  /** Throws DockerError, or the signal's reason. */
  async get(path: string, signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    try {
      return await this.#read(await this.#open(path, signal), path);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof DockerError) throw error;
      if (error instanceof TooLong) throw new DockerError('invalid', `${path}: the answer is too long`);
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
      throw new DockerError('unreachable', `${this.socket}: no connection (${code})`);
    }
  }

  #open(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = request({ socketPath: this.socket, path, headers: { host: 'docker' }, signal }, resolve);
    sent.setTimeout(silenceMs, () =>
      sent.destroy(new DockerError('unreachable', `${path}: silent for too long`)),
    );
    sent.on('error', reject);
    sent.end();
    return promise;
  }

  async #read(answer: IncomingMessage, path: string): Promise<unknown> {
    const { statusCode: status = 0 } = answer;
    if (status !== 200) {
      answer.destroy();
      throw new DockerError('refused', `${path}: answered ${status}`, status);
    }
    const bytes = await readAtMost(answer as AsyncIterable<Buffer>, longestAnswer);
    try {
      return JSON.parse(bytes.toString('utf8')) as unknown;
    } catch {
      throw new DockerError('invalid', `${path}: an answer that is not JSON`);
    }
  }
}
