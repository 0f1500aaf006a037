import { execFile } from 'node:child_process';
import { readAtMost } from '../memory/read-at-most.js';
import { askMirror, registriesOf } from '../nodes/ask-mirror.js';
import { NodeError } from '../nodes/faults.js';
import type { MirrorAddress } from '../nodes/hosts.js';
import type { NodeFiles } from '../nodes/node-files.js';
import { places, runtimesOn, type Runtime } from '../nodes/runtimes.js';
import { mirrorsNamed, setupOf, type NodeSetup } from '../nodes/setup.js';
import { codeOf, runChecks, type Check, type Finding, type Tell } from './check.js';

export interface NodeOptions {
  /** `undefined`: the one that the node's files name. */
  readonly mirror: MirrorAddress | undefined;
  /** PEM. `undefined`: the one in the node's files, if any. */
  readonly ca: Buffer | undefined;
  /** An image to pull. */
  readonly pull: string | undefined;
  /** Where the mirror counts. */
  readonly metrics: string | undefined;
}

const pullMs = 10 * 60_000;
const configure = 'cistern configure-node --mirror https://…';

/** Whether what is pulled on a machine comes through a mirror, by its files, by its daemons, and by a pull. */
export async function examineNode(
  files: NodeFiles,
  options: NodeOptions,
  signal: AbortSignal,
): Promise<Finding[]> {
  const mirror = options.mirror ?? (await mirrorsNamed(files))[0];
  if (mirror === undefined) {
    const nobody: Check = {
      name: 'node',
      run: (tell) => Promise.resolve(tell.fail('no file here names a mirror', configure)),
    };
    return runChecks([nobody], signal);
  }
  const ca = options.ca ?? (await caFor(files, mirror));
  const registries = registriesOf(mirror, ca, signal).catch(() => undefined); // told by the check of the mirror
  const found = await runtimesOn(files);
  const checks = [
    mirrorCheck(mirror, ca),
    ...found.map((runtime) => runtimeCheck(runtime, mirror, registries, files)),
  ];
  const findings = await runChecks(checks, signal);
  if (options.pull === undefined) return findings;
  return [...findings, ...(await runChecks([pullCheck(options.pull, found, options.metrics)], signal))];
}

async function caFor(files: NodeFiles, { host }: MirrorAddress): Promise<Buffer | undefined> {
  for (const folder of [places.containerdHosts, places.dockerHosts, places.containersCertificates]) {
    const found = await files.read(`${folder}/${host}/ca.crt`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function mirrorCheck(mirror: MirrorAddress, ca: Buffer | undefined): Check {
  return {
    name: 'mirror',
    run: async (tell, signal) => {
      try {
        const { status, headers } = await askMirror(mirror, '/v2/', ca, signal);
        if (status === 200) tell.ok(`${mirror.url} answers`);
        else if (status === 401) {
          tell.warn(
            `${mirror.url} asks for a login`,
            'dockerd sends none to a mirror: let it in by its network (docs/access.md)',
          );
        } else
          tell.fail(`${mirror.url} answers ${status} to /v2/`, 'see whether that is the mirror, and its log');
        if (headers['docker-distribution-api-version'] === undefined) {
          tell.fail(`${mirror.url} does not answer as a registry does`, 'see what else listens there');
        }
      } catch (error) {
        if (!(error instanceof NodeError)) throw error;
        tell.fail(error.message, 'see the address, the network and, with an authority of your own, --ca');
      }
    },
  };
}

function runtimeCheck(
  runtime: Runtime,
  mirror: MirrorAddress,
  asked: Promise<readonly string[] | undefined>,
  files: NodeFiles,
): Check {
  return {
    name: runtime,
    run: async (tell, signal) => {
      let setup: NodeSetup;
      try {
        setup = await setupOf(runtime, mirror, files);
      } catch (error) {
        if (!(error instanceof NodeError)) throw error;
        tell.fail(error.message, 'correct that file: its own program cannot read it either');
        return;
      }
      for (const obstacle of setup.obstacles) tell.fail(obstacle.message, obstacle.advice);
      const wanted = runtime === 'docker' ? ['docker.io'] : ((await asked) ?? []);
      const missing = wanted.filter((registry) => !setup.covers(registry));
      if (missing.length > 0 || setup.through.length === 0) {
        const what = missing.length > 0 ? missing.join(', ') : 'whatever it is';
        tell.fail(
          `${what}: not pulled through ${mirror.url}`,
          `cistern configure-node --mirror ${mirror.url} --runtime ${runtime}`,
        );
      } else if (setup.obstacles.length === 0) {
        tell.ok(`is told to pull ${setup.through.join(', ')} through ${mirror.url}`);
      }
      if (runtime === 'docker') await askDockerd(mirror, files, tell, signal);
    },
  };
}

/** What dockerd goes by now, which may be older than its file. Asked only where it is this machine's, and can be. */
async function askDockerd(
  mirror: MirrorAddress,
  files: NodeFiles,
  tell: Tell,
  signal: AbortSignal,
): Promise<void> {
  if (files.root !== '/' && process.env['DOCKER_HOST'] === undefined) return;
  const { code, output } = await run(
    'docker',
    ['info', '--format', '{{json .RegistryConfig.Mirrors}}'],
    signal,
  );
  if (code === 'ENOENT') return;
  if (code !== 0) {
    tell.warn('dockerd cannot be asked which mirrors it uses', 'systemctl status docker');
  } else if (!output.includes(`"${mirror.url}`)) {
    tell.fail('dockerd runs with other mirrors than its file has', 'systemctl reload docker');
  }
}

/** How each client is asked to pull; the first that is here does. */
const pulls: readonly (readonly [Runtime, string, (image: string) => string[]])[] = [
  ['docker', 'docker', (image) => ['pull', '--quiet', image]],
  ['crio', 'crictl', (image) => ['pull', image]],
  ['containerd', 'crictl', (image) => ['pull', image]],
  ['containerd', 'ctr', (image) => ['images', 'pull', '--hosts-dir', places.containerdHosts, image]],
  ['podman', 'podman', (image) => ['pull', '--quiet', image]],
  ['podman', 'skopeo', (image) => ['inspect', '--no-tags', `docker://${image}`]],
];

function pullCheck(image: string, found: readonly Runtime[], metrics: string | undefined): Check {
  return {
    name: 'pull',
    limitMs: pullMs,
    run: async (tell, signal) => {
      const before = metrics === undefined ? undefined : await countAt(metrics, signal);
      if (typeof before === 'string') {
        tell.fail(
          `${metrics} cannot be read: ${before}`,
          'name the metrics page on the debug port of the mirror',
        );
        return;
      }
      for (const [runtime, command, args] of pulls) {
        if (!found.includes(runtime)) continue;
        const { code, output } = await run(command, args(image), signal);
        if (code === 'ENOENT') continue;
        if (code === 0) await tellPulled(`${command} has pulled ${image}`, before, metrics, tell, signal);
        else
          tell.fail(
            `${command} cannot pull ${image}: ${lastLine(output)}`,
            'see the log of the mirror for why',
          );
        return;
      }
      tell.fail('there is no client here that could pull', 'run this where dockerd, containerd or podman is');
    },
  };
}

async function tellPulled(
  pulled: string,
  before: number | undefined,
  metrics: string | undefined,
  tell: Tell,
  signal: AbortSignal,
): Promise<void> {
  if (before === undefined || metrics === undefined) {
    tell.warn(`${pulled}; from where cannot be seen`, 'name the page where the mirror counts: --metrics');
    return;
  }
  const after = await countAt(metrics, signal);
  if (typeof after === 'number' && after > before) {
    tell.ok(`${pulled}, and the mirror has counted ${after - before} requests meanwhile`);
  } else {
    tell.fail(
      `${pulled}, and the mirror has counted nothing meanwhile`,
      `it came past the mirror: ${configure}`,
    );
  }
}

/** Of a page of metrics, in bytes; a mirror's takes a few hundred thousand. */
const longestMetrics = 16 * 1024 * 1024;

/** Requests for manifests and blobs so far; or why that cannot be read. */
async function countAt(metrics: string, signal: AbortSignal): Promise<number | string> {
  try {
    const response = await fetch(metrics, { signal });
    if (!response.ok) return `it answers ${response.status}`;
    const lines = (await bodyOf(response)).split('\n');
    const counted = lines.filter((line) =>
      /^registry_http_requests_total\{[^}]*handler="(?:manifest|blob)"/.test(line),
    );
    return counted.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  } catch (error) {
    signal.throwIfAborted();
    return codeOf(error);
  }
}

async function bodyOf({ body }: Response): Promise<string> {
  return body === null ? '' : (await readAtMost(body, longestMetrics)).toString('utf8');
}

interface Ran {
  /** `ENOENT`: there is no such program. */
  readonly code: number | string;
  readonly output: string;
}

function run(command: string, args: readonly string[], signal: AbortSignal): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  execFile(command, args, { signal, encoding: 'utf8' }, (error, stdout, stderr) => {
    resolve({ code: error === null ? 0 : (error.code ?? 1), output: stdout + stderr });
  });
  return promise;
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
}
