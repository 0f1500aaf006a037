import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { withoutSecrets } from '../telemetry/without-secrets.js';
import { CredentialsError, type Credentials, type Login } from './credentials.js';
import { parseObject } from './json.js';
import type { UpstreamLog } from './observer.js';

export interface HelperOptions {
  /** The program: a path, or a name to be found in PATH. */
  readonly command: string;
  /** Milliseconds for which an answer is used; 0: for one request; `undefined`: until the upstream refuses it. */
  readonly lifetimeMs: number | undefined;
  /** What it is asked for: the upstream's host, or Docker Hub's name for itself. */
  readonly server: string;
  readonly env: NodeJS.ProcessEnv;
  /** The upstream's look-up key, for the log. */
  readonly host: string;
  readonly log: UpstreamLog;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly timeoutMs?: number;
}

const usualTimeoutMs = 10_000;
const longestAnswer = 64 * 1024;
const longestMessage = 500;
/** Before the end of an answer's lifetime the next one is asked for so early, or at its last quarter. */
const longestLeadMs = 60_000;
/** A program that failed is left alone so long, and one whose answer was refused is asked again not sooner. */
const pauseMs = 5_000;

interface Answer {
  readonly login: Login;
  readonly at: number;
}

/**
 * A credential helper by Docker's protocol, as registry 3 has it (`proxy.exec`): the program is run with `get`, is given
 * the server on standard input, and answers with JSON: `Username`, `Secret`. Its answer is replaced shortly before it
 * ends while the old one is in use, so that requests wait for the first one alone. Many requests are one run.
 */
export class CredentialHelper implements Credentials {
  readonly account: string;
  #answer: Answer | undefined;
  readonly #asking = new SingleFlight<Login>();
  #failure: { readonly error: CredentialsError; readonly at: number } | undefined;

  constructor(private readonly options: HelperOptions) {
    this.account = `exec ${options.command}`;
  }

  /** @throws CredentialsError */
  async login(): Promise<Login> {
    const { lifetimeMs = Infinity, now } = this.options;
    const answer = this.#answer;
    const age = answer === undefined ? Infinity : now() - answer.at;
    if (answer === undefined || age >= lifetimeMs) return this.#renew();
    // The flight handles a failure, and `#ask` logs it. The present answer stays valid until its end.
    if (age >= lifetimeMs - Math.min(lifetimeMs / 4, longestLeadMs)) void this.#renew();
    return answer.login;
  }

  refused(): void {
    const answer = this.#answer;
    if (answer !== undefined && this.options.now() - answer.at >= pauseMs) this.#answer = undefined;
  }

  #renew(): Promise<Login> {
    return this.#asking.join(this.options.server, () => this.#ask());
  }

  async #ask(): Promise<Login> {
    const { command, host, log, now } = this.options;
    const at = now();
    if (this.#failure !== undefined && at - this.#failure.at < pauseMs) throw this.#failure.error;
    try {
      const login = await this.#run();
      this.#answer = { login, at };
      if (this.#failure !== undefined) log.info({ upstream: host }, 'the credential helper answers again');
      this.#failure = undefined;
      return login;
    } catch (cause) {
      const error =
        cause instanceof CredentialsError
          ? cause
          : new CredentialsError('helper-failed', `cannot be run (${codeOf(cause)})`);
      // A row of failures is one line.
      if (this.#failure === undefined) {
        log.warn({ upstream: host, command, err: error }, 'the credential helper gives no credentials');
      }
      this.#failure = { error, at: now() };
      throw error;
    }
  }

  async #run(): Promise<Login> {
    const { command, server, env, timeoutMs = usualTimeoutMs } = this.options;
    // In a group of its own, so that what it starts in its turn ends with it.
    const child = spawn(command, ['get'], { env, stdio: 'pipe', detached: true });
    const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    // Without free descriptors Node makes no pipes (its types say otherwise), and `closed` rejects with the reason.
    if ((child.stdin as Writable | undefined) === undefined) await closed;
    const silent = AbortSignal.timeout(timeoutMs);
    const end = (): void => endGroup(child);
    silent.addEventListener('abort', end);
    child.stdin.on('error', () => undefined); // it need not read
    child.stdin.end(server);
    const work = Promise.all([
      readUpTo(child.stdout, longestAnswer),
      readUpTo(child.stderr, longestMessage),
      closed,
    ]);
    const [said, complained, [code, signal]] = await waitFor(work, silent)
      .catch((cause: unknown) => {
        if (!silent.aborted) throw cause;
        throw new CredentialsError('helper-silent', `gave no answer within ${timeoutMs} ms`);
      })
      .finally(() => silent.removeEventListener('abort', end));
    if (code !== 0) {
      // Helpers tell what went wrong on standard output (Docker's protocol) or on standard error.
      const words = [complained, said].map((text) => text.slice(0, longestMessage).trim()).filter(Boolean);
      throw new CredentialsError(
        'helper-failed',
        `ended with ${code ?? signal}: ${withoutKeys(words.join('; '), env)}`,
      );
    }
    const answer = parseObject(Buffer.from(said));
    const [username, password] = [answer?.['Username'], answer?.['Secret']];
    if (typeof username !== 'string' || typeof password !== 'string' || username === '' || password === '') {
      throw new CredentialsError('helper-answer', 'answered without Username and Secret');
    }
    if (username === '<token>') {
      throw new CredentialsError('helper-answer', 'answered with an identity token, which is not supported');
    }
    return { username, password };
  }
}

/** Also what a program that has ended left behind. Never throws: a program of another user (EPERM) goes on running. */
function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The caller gets `helper-silent` in any case.
  }
}

/** The rest is read and dropped, so that the program is not held up by it. */
async function readUpTo(stream: Readable, most: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (length < most) chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks).subarray(0, most).toString('utf8');
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}

const secretName = /SECRET|TOKEN|PASSW|KEY|CREDENTIAL|AUTH/i;
/** Long words with small and capital letters and digits are rather keys than names. */
const keyLike = /(?=[\w+/=.~-]*[a-z])(?=[\w+/=.~-]*[A-Z])(?=[\w+/=.~-]*\d)[\w+/=.~-]{20,}/g;

/** What a foreign program says, for the log: without the secrets of its environment, and without what looks like a key. */
export function withoutKeys(text: string, env: NodeJS.ProcessEnv): string {
  const secrets = Object.entries(env).filter(([name]) => secretName.test(name));
  return withoutSecrets(
    text,
    secrets.flatMap(([, value]) => value ?? []),
  ).replaceAll(keyLike, '(hidden)');
}
