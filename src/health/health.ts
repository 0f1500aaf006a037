import { access } from 'node:fs/promises';
import { connect } from 'node:net';
import type { HealthConfig } from '../config/config.js';
import { parseListen } from '../config/listen.js';
import type { Logger } from '../telemetry/log.js';

interface Check {
  readonly name: string;
  readonly intervalMs: number;
  readonly threshold: number;
  /** Whether the load balancer should look elsewhere while it fails: what all replicas share never does. */
  readonly gatesReadiness: boolean;
  /** Throws what is wrong. */
  run(): Promise<void>;
}

/** The storage as the check of it needs it. */
export interface StorageProbe {
  /** As the configuration calls it. */
  readonly driver: string;
  /** Throws where the storage cannot be used. */
  probe(): Promise<void>;
}

/** registry's `health` section: checks on their own clocks, whose last results the probes tell. */
export class Health {
  readonly #checks: readonly Check[];
  readonly #failing = new Map<string, string>();
  readonly #timers = new Map<Check, NodeJS.Timeout>();
  #draining = false;

  constructor(
    config: HealthConfig,
    storage: StorageProbe,
    private readonly log: Logger,
  ) {
    this.#checks = checksOf(config, storage);
  }

  start(): void {
    for (const check of this.#checks) {
      let failures = 0;
      const run = async (): Promise<void> => {
        failures = (await this.#succeeds(check, failures)) ? 0 : failures + 1;
        this.#timers.set(check, setTimeout(() => void run(), check.intervalMs).unref());
      };
      void run();
    }
  }

  stop(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  /** From now on `/readyz` says no. */
  drain(): void {
    this.#draining = true;
  }

  /** registry's `/debug/health`: what fails and why; empty when all is well. */
  failing(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#failing);
  }

  /** Why no new clients should come; `undefined` when they may. */
  notReady(): Readonly<Record<string, string>> | undefined {
    if (this.#draining) return { draining: 'the server is shutting down' };
    const gating = this.#checks.filter((check) => check.gatesReadiness && this.#failing.has(check.name));
    if (gating.length === 0) return undefined;
    return Object.fromEntries(gating.map(({ name }) => [name, this.#failing.get(name) ?? '']));
  }

  async #succeeds(check: Check, failuresBefore: number): Promise<boolean> {
    try {
      await check.run();
      if (this.#failing.delete(check.name))
        this.log.info({ check: check.name }, 'health check succeeds again');
      return true;
    } catch (error) {
      if (failuresBefore + 1 >= check.threshold && !this.#failing.has(check.name)) {
        this.log.error({ check: check.name, err: error }, 'health check fails');
      }
      if (failuresBefore + 1 >= check.threshold) {
        this.#failing.set(check.name, error instanceof Error ? error.message : String(error));
      }
      return false;
    }
  }
}

function checksOf(config: HealthConfig, { driver, probe }: StorageProbe): Check[] {
  const { storagedriver, file, http, tcp } = config;
  const storage: Check = {
    name: `storagedriver_${driver}`,
    intervalMs: storagedriver.interval,
    threshold: storagedriver.threshold,
    gatesReadiness: false,
    run: probe,
  };
  return [
    ...(storagedriver.enabled ? [storage] : []),
    ...file.map((check) => gating(check.file, check, () => expectNoFile(check.file))),
    ...http.map((check) => gating(check.uri, check, () => expectAnswer(check))),
    ...tcp.map((check) => gating(check.addr, check, () => expectConnection(check.addr, check.timeout))),
  ];
}

function gating(
  name: string,
  { interval, threshold }: { readonly interval: number; readonly threshold: number },
  run: () => Promise<void>,
): Check {
  return { name, intervalMs: interval, threshold, gatesReadiness: true, run };
}

/** An operator takes a replica out by making the file. */
async function expectNoFile(path: string): Promise<void> {
  const there = await access(path).then(
    () => true,
    () => false,
  );
  if (there) throw new Error('file exists');
}

async function expectAnswer(check: HealthConfig['http'][number]): Promise<void> {
  const headers = Object.entries(check.headers).flatMap(([name, values]) =>
    values.map((value): [string, string] => [name, value.reveal()]),
  );
  const signal = AbortSignal.timeout(check.timeout);
  const { status } = await fetch(check.uri, { method: 'HEAD', headers, redirect: 'manual', signal });
  if (status !== check.statuscode) throw new Error(`answered ${status}, not ${check.statuscode}`);
}

async function expectConnection(address: string, timeoutMs: number): Promise<void> {
  const parsed = parseListen(address);
  if (parsed === undefined) throw new Error('not an address');
  const socket = connect({ host: parsed.host ?? 'localhost', port: parsed.port });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.setTimeout(timeoutMs, () => reject(new Error(`no connection within ${timeoutMs} ms`)));
  socket.once('connect', () => resolve());
  socket.once('error', reject);
  await promise.finally(() => socket.destroy());
}
