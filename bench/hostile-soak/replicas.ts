import { join } from 'node:path';
import { type MovableClock, movableWallClock } from '../../test/parts/clock.js';
import { type Cistern, type Settings, startCistern } from '../../test/parts/cistern.js';
import { metric } from '../../test/parts/mirror.js';
import { freePort } from '../../test/parts/ports.js';
import { type Exit, until } from '../../test/parts/process.js';
import { memoryOf } from '../process-memory.js';
import { asInProduction } from '../replica-settings.js';
import type { Point } from '../slope.js';

/** Root can read every file, whatever its mode. This takes that right from a replica, so that `chmod` has an effect. */
const withoutOverride = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'];
const unhandledLine = /unhandled|uncaught|heap out of memory|RangeError: Maximum call stack/i;
const sampleMs = 1_000;
const mebibyte = 1024 * 1024;

export interface JobRuns {
  readonly done: number;
  readonly failed: number;
}

/** Runs a replica, starts it again each time it ends, and records its exits, errors and memory. */
export class WatchedReplica {
  /** Unexpected ends of the process. */
  readonly exits: string[] = [];
  /** Log lines about errors that no code handled. */
  readonly unhandledLines: string[] = [];
  /** Minutes since the start of the run, and resident MiB of the current process. */
  memory: Point[] = [];
  #cistern: Cistern | undefined;
  #stopping = false;
  #ended: Promise<void> = Promise.resolve();

  private constructor(
    readonly index: number,
    readonly folder: string,
    readonly clock: MovableClock,
    readonly port: number,
    readonly clusterPort: number,
    private readonly config: Settings,
    private readonly note: (text: string) => void,
  ) {}

  static async start(
    index: number,
    folder: string,
    config: (clusterAddr: string, spool: string) => Settings,
    note: (text: string) => void,
  ): Promise<WatchedReplica> {
    const clock = await movableWallClock(join(folder, `clock-${index}`));
    const [port, clusterPort] = [await freePort(), await freePort()];
    const own = join(folder, `replica-${index}`);
    const settings = config(`127.0.0.1:${clusterPort}`, join(own, 'spool'));
    const replica = new WatchedReplica(index, own, clock, port, clusterPort, settings, note);
    await replica.#start();
    return replica;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Unhandled errors that the process counted. */
  async unhandledErrors(): Promise<number> {
    return this.#cistern === undefined ? 0 : metric(this.#cistern, 'cistern_unhandled_errors_total');
  }

  async jobRuns(): Promise<JobRuns> {
    if (this.#cistern === undefined) return { done: 0, failed: 0 };
    const runs = (outcome: string): Promise<number> =>
      metric(this.#cistern as Cistern, 'cistern_job_runs_total', { outcome });
    return { done: await runs('done'), failed: await runs('failed') };
  }

  /** Reads its memory each second, until the signal aborts. */
  async followMemory(signal: AbortSignal, minutes: () => number): Promise<void> {
    const stopped = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => stopped.resolve(), { once: true });
    const timer = setInterval(() => {
      const pid = this.#cistern?.pid;
      if (pid === undefined) return;
      memoryOf(pid).then(
        ({ resident }) => this.memory.push([minutes(), resident / mebibyte]),
        () => undefined, // it has just ended
      );
    }, sampleMs);
    await stopped.promise;
    clearInterval(timer);
  }

  /** Ends the replica by SIGTERM. An exit code other than 0 counts as an unexpected end. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
    const cistern = this.#cistern;
    if (cistern === undefined) return;
    this.#cistern = undefined;
    const exit = await cistern.stop();
    this.#readLog(cistern);
    if (exit.code !== 0) this.#noteExit(exit, cistern, 'on SIGTERM');
    await cistern[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    this.memory = [];
    const cistern = await startCistern({
      config: this.config,
      root: this.folder,
      port: this.port,
      env: { ...asInProduction.env(), ...this.clock.env },
      launcher: process.getuid?.() === 0 ? withoutOverride : [],
    });
    this.#cistern = cistern;
    void cistern.exited.then((exit) => {
      if (this.#stopping || this.#cistern !== cistern) return;
      this.#noteExit(exit, cistern, 'by itself');
      this.#readLog(cistern);
      this.#cistern = undefined;
      this.#ended = this.#restart(cistern);
    });
  }

  async #restart(dead: Cistern): Promise<void> {
    await dead[Symbol.asyncDispose]();
    if (this.#stopping) return;
    try {
      await this.#start();
    } catch (error) {
      this.exits.push('did not start again');
      this.note(`replica ${this.index} did not start again: ${String(error).slice(0, 2000)}`);
    }
  }

  #noteExit({ code, signal }: Exit, cistern: Cistern, how: string): void {
    this.exits.push(`${code ?? signal} ${how}`);
    this.note(`REPLICA ${this.index} ENDED ${how} with ${code ?? signal}\n${cistern.log().slice(-3000)}`);
  }

  #readLog(cistern: Cistern): void {
    const lines = cistern
      .log()
      .split('\n')
      .filter((line) => unhandledLine.test(line));
    this.unhandledLines.push(...lines);
    for (const line of lines.slice(0, 20)) this.note(`replica ${this.index} logged: ${line.slice(0, 2000)}`);
  }
}

/** Waits until every replica answers `/healthz`. */
export async function untilHealthy(replicas: readonly WatchedReplica[], signal: AbortSignal): Promise<void> {
  for (const { url } of replicas) {
    await until(async () => (await fetch(`${url}/healthz`).catch(() => undefined))?.ok === true, signal);
  }
}
