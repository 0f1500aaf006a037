import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { freePort } from './ports.js';
import { type RunningProcess, startProcess, until, untilReady } from './process.js';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Prometheus extends RunningProcess {
  /** The vector of an expression as of now. Throws where Prometheus does not understand it. */
  query(expression: string): Promise<Sample[]>;
  /** An answer of its API, below `/api/v1/`. */
  api<T>(path: string): Promise<T>;
}

export interface PrometheusOptions {
  /** The name of what is scraped. */
  readonly job: string;
  /** `127.0.0.1:port`, with `/metrics`. */
  readonly targets: readonly string[];
  /** A file of rules. */
  readonly rules: URL;
}

interface Vector {
  readonly result: readonly { readonly metric: Record<string, string>; readonly value: [number, string] }[];
}

/** Debian's prometheus on loopback, which looks every second. */
export async function startPrometheus({ job, targets, rules }: PrometheusOptions): Promise<Prometheus> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const port = await freePort();
  const config = join(folder.path, 'prometheus.yml');
  await writeFile(join(folder.path, 'rules.yml'), await readFile(rules));
  const every = { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' };
  const scraped = { job_name: job, static_configs: [{ targets }] };
  await writeFile(config, stringify({ global: every, rule_files: ['rules.yml'], scrape_configs: [scraped] }));
  const running = cleanup.use(
    await startProcess(commandOf('prometheus'), [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder.path, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]),
  );
  const url = `http://127.0.0.1:${port}`;
  const isReady = (): Promise<boolean> =>
    fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await untilReady(running, 'prometheus', (signal) => until(isReady, signal));
  const api = async <T>(path: string): Promise<T> => {
    const answer = await fetch(`${url}/api/v1/${path}`);
    const { data, error } = (await answer.json()) as { data: T; error?: string };
    if (error !== undefined) throw new Error(`${path}: ${error}`);
    return data;
  };
  const owned = cleanup.move();
  return {
    ...running,
    api,
    query: async (expression) => {
      const { result } = await api<Vector>(`query?query=${encodeURIComponent(expression)}`);
      return result.map(({ metric, value }) => ({
        labels: metric,
        value: Number(value[1].replace('Inf', 'Infinity')),
      }));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
