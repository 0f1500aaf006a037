import { request, type IncomingMessage } from 'node:http';
import { readAtMost } from '../memory/read-at-most.js';
import {
  AdminError,
  type Administration,
  type AdminCode,
  type AdminEvent,
  type AdminTask,
  type ListedJob,
} from './admin.js';

/** Where a mirror's admin API is. */
export type AdminAddress = { readonly host: string; readonly port: number } | { readonly socketPath: string };

/** Nobody listens there. */
const absent: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'EHOSTUNREACH',
  'EADDRNOTAVAIL',
  'ECONNRESET',
]);

/** In bytes. */
const longestAnswer = 1024 * 1024;
const longestRefusal = 64 * 1024;

/** The admin API of a mirror that runs. */
export class RemoteAdministration implements Administration {
  constructor(
    private readonly address: AdminAddress,
    private readonly token: string,
  ) {}

  /** Whether a mirror of this storage answers there. Throws AdminError where something else does. */
  async reachable(signal: AbortSignal): Promise<boolean> {
    try {
      await this.jobs(signal);
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error && absent.has(String(error.code))) return false;
      throw error;
    }
  }

  async jobs(signal: AbortSignal): Promise<readonly ListedJob[]> {
    const response = await this.#ask('GET', '/jobs', {}, signal);
    const { jobs } = JSON.parse(await textOf(response, longestAnswer)) as { jobs: ListedJob[] };
    return jobs;
  }

  async *run(task: AdminTask, signal: AbortSignal): AsyncGenerator<AdminEvent> {
    const { method, path, query } = toRequest(task);
    let response: IncomingMessage | undefined;
    try {
      response = await this.#ask(method, path, query, signal);
      let last: AdminEvent | undefined;
      for await (const line of linesOf(response)) {
        last = JSON.parse(line) as AdminEvent;
        yield last;
      }
      if (last?.type !== 'result' && last?.type !== 'error') throw brokenOff();
    } catch (error) {
      signal.throwIfAborted();
      throw error instanceof AdminError ? error : brokenOff(error);
    } finally {
      response?.destroy();
    }
  }

  async #ask(
    method: 'GET' | 'POST',
    path: string,
    query: Query,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const parameters = new URLSearchParams();
    for (const [name, values] of Object.entries(query)) {
      for (const value of [values].flat()) parameters.append(name, String(value));
    }
    const asked = request(
      {
        ...this.address,
        method,
        path: `/admin/v1${path}?${parameters}`,
        headers: { Authorization: `Bearer ${this.token}`, Host: 'cistern' },
        agent: false,
        signal,
      },
      resolve,
    );
    asked.once('error', (error) => reject(signal.aborted ? (signal.reason as Error) : error));
    asked.end();
    const response = await promise;
    if (response.statusCode === 200) return response;
    throw await refusal(response);
  }
}

type Query = Readonly<Record<string, boolean | string | readonly string[]>>;

/** As docs/openapi.yaml has it. */
function toRequest(task: AdminTask): {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly query: Query;
} {
  switch (task.task) {
    case 'images':
      return { method: 'GET', path: '/images', query: {} };
    case 'gc':
      return { method: 'POST', path: '/gc', query: { dryRun: task.dryRun, untagged: task.untagged } };
    case 'verify': {
      const { dryRun, image } = task;
      return {
        method: 'POST',
        path: '/verify',
        query: { dryRun, ...(image === undefined ? {} : { image }) },
      };
    }
    case 'prewarm':
      return { method: 'POST', path: '/prewarm', query: { image: task.images, platform: task.platforms } };
    case 'purge':
      return {
        method: 'POST',
        path: '/purge',
        query: { dryRun: task.dryRun, image: task.image, all: task.all },
      };
    case 'refresh':
      return { method: 'POST', path: '/refresh', query: { image: task.image } };
    case 'run':
      return { method: 'POST', path: `/jobs/${task.job}/runs`, query: { dryRun: task.dryRun } };
  }
}

async function textOf(response: IncomingMessage, longest: number): Promise<string> {
  return (await readAtMost(response as AsyncIterable<Buffer>, longest)).toString('utf8');
}

async function refusal(response: IncomingMessage): Promise<AdminError> {
  const { statusCode } = response;
  const body = await textOf(response, longestRefusal);
  try {
    const { error } = JSON.parse(body) as { error: { code: AdminCode; message: string } };
    return new AdminError(error.code, error.message);
  } catch (cause) {
    return new AdminError(
      'failed',
      `what answers as the mirror's admin API is something else (${statusCode})`,
      { cause },
    );
  }
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

function brokenOff(cause?: unknown): AdminError {
  return new AdminError('unavailable', 'the connection to the mirror broke off', { cause });
}
