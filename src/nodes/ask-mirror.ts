import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getSecure } from 'node:https';
import { getCACertificates } from 'node:tls';
import { readAtMost } from '../memory/read-at-most.js';
import { NodeError } from './faults.js';
import { parseHost, type MirrorAddress } from './hosts.js';

const answerMs = 5_000;
const longestAnswer = 1024 * 1024;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** GET of a path of the mirror, as a node's clients reach it. `ca`: PEM, trusted beside the system's authorities. */
export async function askMirror(
  mirror: MirrorAddress,
  path: string,
  ca: Buffer | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(answerMs)]);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const options = { signal: limit, headers: { accept: 'application/json' }, agent: false };
  const request = mirror.secure
    ? getSecure(
        `${mirror.url}${path}`,
        { ...options, ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca.toString()] }) },
        resolve,
      )
    : getPlain(`${mirror.url}${path}`, options, resolve);
  request.once('error', reject);
  try {
    const response = await promise;
    const text = await readAtMost(response as AsyncIterable<Buffer>, longestAnswer);
    return { status: response.statusCode ?? 0, headers: response.headers, body: text.toString('utf8') };
  } catch (cause) {
    signal.throwIfAborted();
    throw new NodeError('mirror-unreachable', `${mirror.url} does not answer: ${reasonOf(cause, limit)}`, {
      cause,
    });
  }
}

function reasonOf(error: unknown, limit: AbortSignal): string {
  if (limit.aborted) return `nothing within ${answerMs / 1000} s`;
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

/** The hosts whose images the mirror serves to whoever asks. @throws NodeError */
export async function registriesOf(
  mirror: MirrorAddress,
  ca: Buffer | undefined,
  signal: AbortSignal,
): Promise<string[]> {
  const { status, body } = await askMirror(mirror, '/nodes.json', ca, signal);
  if (status === 401 || status === 403) {
    throw new NodeError(
      'mirror-login',
      `${mirror.url} does not tell everybody what it mirrors: name it (--upstream)`,
    );
  }
  const hosts = status === 200 ? hostsIn(body) : undefined;
  if (hosts === undefined) {
    throw new NodeError(
      'mirror-answer',
      `${mirror.url} does not answer as this mirror does (${status} to /nodes.json)`,
    );
  }
  return hosts;
}

/** What the mirror says goes into paths and files, so nothing but hosts is taken. */
function hostsIn(body: string): string[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null || !('upstreams' in parsed)) return undefined;
  if (!Array.isArray(parsed.upstreams)) return undefined;
  const hosts = parsed.upstreams.map((each: unknown) => {
    const host = typeof each === 'object' && each !== null && 'host' in each ? each.host : undefined;
    return typeof host === 'string' ? parseHost(host) : undefined;
  });
  return hosts.includes(undefined) ? undefined : hosts.filter((host) => host !== undefined);
}
