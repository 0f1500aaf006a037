import './typescript.mjs';

/** Clients in a process of their own, so that they take no time from the upstream: each pulls all paths from its base. */
const { download } = await import('./download.js');
const { bases, paths, size } = JSON.parse(process.argv[2] ?? '') as Pull;
interface Pull {
  readonly bases: readonly string[];
  readonly paths: readonly string[];
  readonly size: number;
}

const never = new AbortController().signal;

// Each client three layers at once, as containerd has it.
async function pull(base: string): Promise<void> {
  const queue = paths.map((path) => `${base}${path}`);
  const worker = async (): Promise<void> => {
    for (let url = queue.shift(); url !== undefined; url = queue.shift()) await download(url, size, never);
  };
  await Promise.all([worker(), worker(), worker()]);
}

const started = performance.now();
await Promise.all(bases.map(pull));
process.stdout.write(String((performance.now() - started) / 1000));
