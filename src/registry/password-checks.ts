import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Shares } from '../memory/shares.js';

/** Queued and running checks. Each holds a password, which is shorter than a request's headers may be. */
const mostChecks = 256;
/** The heap of a worker, in MB. */
const workerHeap = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 };
/** At most half of the processors, so that the others answer requests. */
const mostWorkers = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2)));

export interface PasswordCheck {
  /** Secret. */
  readonly password: string;
  readonly hash: string;
}

/** The queue is full, or this client's share of it is. */
export class ChecksBusy extends Error {
  override readonly name = 'ChecksBusy';
}

export interface PasswordClient {
  readonly name: string;
  /** Called when the turn of a check comes; an error refuses the check. */
  readonly refusal: () => Error | undefined;
  /** Whether the client has sent wrong passwords. Its checks come after those of other clients. */
  readonly isSuspect: () => boolean;
}

interface QueuedCheck extends PasswordCheck {
  readonly result: PromiseWithResolvers<boolean>;
  readonly client: PasswordClient;
}

/**
 * Compares passwords with bcrypt hashes in worker threads. bcrypt is slow on purpose, so it must block neither the
 * event loop nor the thread pool that reads files. Clients take turns, however many checks one of them queues, and
 * clients without wrong passwords come first.
 */
export class PasswordChecks {
  /** Queues by client, in the order of the clients' turns. */
  readonly #queues = new Map<string, QueuedCheck[]>();
  readonly #shares = new Shares(mostChecks);
  readonly #idle: Worker[] = [];
  #workers = 0;

  constructor() {
    this.#idle.push(this.#start()); // so that the first login does not wait for the start
  }

  /** Rejects with {@link ChecksBusy}, with the refusal, or if the worker ends. */
  async compare(check: PasswordCheck, client: PasswordClient): Promise<boolean> {
    const { name } = client;
    if (!this.#shares.haveRoomFor(name)) throw new ChecksBusy('too many passwords are queued');
    const giveBack = this.#shares.take(name);
    try {
      const queued = { ...check, result: Promise.withResolvers<boolean>(), client };
      const queue = this.#queues.get(name);
      if (queue === undefined) this.#queues.set(name, [queued]);
      else queue.push(queued);
      this.#wake();
      return await queued.result.promise;
    } finally {
      giveBack();
    }
  }

  /** Never throws. Where the system gives no thread, checks wait for a worker that runs, or else are refused. */
  #wake(): void {
    try {
      const worker = this.#idle.pop() ?? (this.#workers < mostWorkers ? this.#start() : undefined);
      if (worker !== undefined) void this.#work(worker);
    } catch (error) {
      if (this.#workers > 0) return;
      for (let check = this.#next(); check !== undefined; check = this.#next()) check.result.reject(error);
    }
  }

  #start(): Worker {
    const file = new URL(`./password-worker${extname(import.meta.filename)}`, import.meta.url);
    const worker = new Worker(file, { resourceLimits: workerHeap });
    this.#workers += 1;
    worker.on('error', () => undefined); // `resultOf` rejects, and `exit` follows
    worker.once('exit', () => this.#forget(worker));
    worker.unref();
    return worker;
  }

  #forget(worker: Worker): void {
    this.#workers -= 1;
    const index = this.#idle.indexOf(worker);
    if (index >= 0) this.#idle.splice(index, 1);
    if (this.#queues.size > 0) this.#wake();
  }

  /** Runs checks until none is queued, or until the worker ends. Never rejects. */
  async #work(worker: Worker): Promise<void> {
    for (let check = this.#next(); check !== undefined; check = this.#next()) {
      try {
        check.result.resolve(await resultOf(worker, check));
      } catch (error) {
        check.result.reject(error);
        await worker.terminate();
        return;
      }
    }
    this.#idle.push(worker);
  }

  /** The check whose turn it is. Its client moves to the end of the order. */
  #next(): QueuedCheck | undefined {
    for (const suspects of [false, true]) {
      for (const [name, queue] of this.#queues) {
        if (queue[0]?.client.isSuspect() !== suspects) continue;
        const check = queue.shift();
        this.#queues.delete(name);
        if (queue.length > 0) this.#queues.set(name, queue);
        const refusal = check?.client.refusal();
        if (refusal === undefined) return check;
        check?.result.reject(refusal);
      }
    }
    return undefined;
  }
}

async function resultOf(worker: Worker, { password, hash }: PasswordCheck): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const exited = (code: number): void => reject(new Error(`the password worker ended with code ${code}`));
  worker.once('message', resolve).once('error', reject).once('exit', exited);
  try {
    worker.postMessage({ password, hash });
    return await promise;
  } finally {
    worker.off('message', resolve).off('error', reject).off('exit', exited);
  }
}
