import type { Redis } from 'ioredis';
import { within } from '../../async/wait.js';
import type { Logger } from '../../telemetry/log.js';

/** Redis gave no answer within its budget. */
export const unavailable = Symbol('unavailable');
export type Unavailable = typeof unavailable;

/** A command had no answer within its time. */
class NoAnswer extends Error {
  override readonly name = 'NoAnswer';
}

const timeoutsToOpen = 3;
const probeEveryMs = 500;
/** A connection, or its handshake, that stays silent this long is given up for a new one: its other end may have moved. */
const silentProbes = 4;

export interface LinkEvents {
  failed(): void;
  /** The value under the key is of a type that no replica writes there. */
  wrongType(key: string | undefined): void;
  /** 1: usable, 0: not. */
  state(usable: 0 | 1): void;
}

/** Says once that Redis is away and once that it is back, however many connections there are to it. */
export class Outage {
  readonly #away = new Set<string>();
  readonly #doubts: (() => void)[] = [];

  constructor(private readonly log: Logger) {}

  /** What a connection does when another one is away: look whether it is away as well. */
  onBegin(doubt: () => void): void {
    this.#doubts.push(doubt);
  }

  begin(connection: string, reason: string): void {
    if (this.#away.size === 0) {
      this.log.warn({ redis: connection, reason }, 'redis cannot be used, going on without it');
    }
    this.#away.add(connection);
    for (const doubt of this.#doubts) doubt();
  }

  end(connection: string): void {
    if (this.#away.delete(connection) && this.#away.size === 0) this.log.info('redis is used again');
  }
}

/**
 * Calls to one Redis connection, each within a time budget. After a lost connection or a few time-outs in a row
 * nobody tries any more until a probe succeeds: an outage costs one log line, and no request any time.
 */
export class RedisLink {
  #usable = true;
  #timeouts = 0;
  #probing: NodeJS.Timeout | undefined;
  #silent = 0;
  #closed = false;

  constructor(
    readonly client: Redis,
    private readonly budgetMs: number,
    private readonly name: string,
    private readonly log: Logger,
    private readonly events: LinkEvents,
    private readonly outage = new Outage(log),
  ) {
    for (const event of ['close', 'end']) client.on(event, () => this.#fail('the connection was lost'));
    client.on('ready', () => this.#recover());
    outage.onBegin(() => void this.#doubt());
    events.state(1);
    this.#probeLater();
  }

  get usable(): boolean {
    return this.#usable && this.client.status === 'ready';
  }

  /** The call's result, or {@link unavailable}. Errors of Redis' own (a wrong type, a refused command) count too. */
  async call<T>(command: (client: Redis) => Promise<T>): Promise<T | Unavailable> {
    if (!this.#usable) return unavailable;
    if (this.client.status !== 'ready') {
      // At the start, and between two connections.
      this.events.failed();
      return unavailable;
    }
    try {
      const result = await within(command(this.client), this.budgetMs, () => new NoAnswer());
      this.#timeouts = 0;
      return result;
    } catch (error) {
      if (error instanceof NoAnswer) this.#noteSilence();
      else if (this.client.status !== 'ready') this.#fail('the connection was lost');
      else this.#noteFailure(error);
    }
    this.events.failed();
    return unavailable;
  }

  #noteSilence(): void {
    this.#timeouts += 1;
    if (this.#timeouts >= timeoutsToOpen) this.#fail(`no answer within ${this.budgetMs} ms`);
  }

  #noteFailure(err: unknown): void {
    this.log.debug({ err, redis: this.name }, 'a redis command failed');
    if (String(err).includes('WRONGTYPE')) this.events.wrongType(keyOf(err));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#probing);
    this.client.disconnect();
  }

  #fail(reason: string): void {
    if (!this.#usable || this.#closed) return;
    this.#usable = false;
    this.#silent = 0;
    this.events.state(0);
    this.outage.begin(this.name, reason);
    this.#probeLater();
  }

  async #doubt(): Promise<void> {
    if (this.usable && !(await this.#answers())) this.#fail('no answer');
  }

  #probeLater(): void {
    clearTimeout(this.#probing);
    this.#probing = setTimeout(() => void this.#probe(), probeEveryMs).unref();
  }

  async #probe(): Promise<void> {
    if (this.#closed) return;
    const { client } = this;
    const { status } = client;
    if (status === 'ready' && (this.#usable || (await this.#answers()))) {
      this.#recover();
      return;
    }
    if (status === 'end') {
      // ioredis gives up for good when a Sentinel tells of a new master while another one is asked who it is.
      client.connect().catch(() => undefined);
    } else {
      this.#silent += 1;
      if (this.#silent >= silentProbes) {
        this.#fail('no connection');
        this.#silent = 0;
        if (status === 'ready' || status === 'connect') client.disconnect(true);
      }
    }
    this.#probeLater();
  }

  async #answers(): Promise<boolean> {
    try {
      await within(this.client.ping(), Math.max(this.budgetMs, probeEveryMs), () => new NoAnswer());
      return true;
    } catch {
      return false;
    }
  }

  #recover(): void {
    this.#timeouts = 0;
    if (this.#usable) return;
    this.#usable = true;
    clearTimeout(this.#probing);
    this.events.state(1);
    this.outage.end(this.name);
  }
}

/** The key of the command that failed. */
function keyOf(error: unknown): string | undefined {
  const { command } = error as { readonly command?: { readonly args: readonly unknown[] } };
  return command?.args.map(String).find((each) => each.startsWith('cistern:'));
}
