import { receive } from '../test/fakes/slow-client.js';
import { attacks, type Target } from '../test/hostile/attacks.js';
import { imageOf, randomLayer } from '../test/parts/image.js';
import { blobOf, type Mirror, startMirror } from '../test/parts/mirror.js';
import { CannotMeasure, runBenchmark, say } from './command.js';
import { describeMachine, machineText } from './machine.js';
import { memoryOf } from './process-memory.js';
import { summarize } from './statistics.js';

const mebibyte = 1024 * 1024;
const repository = 'team/app';
const image = imageOf({ layers: [randomLayer(2 * mebibyte, 'honest')] });
const large = blobOf(32 * mebibyte, 'slow');
const pulls = 20;
const idleConnections = { full: 10_000, quick: 1_000 } as const;

/** The pulls of one honest client, alone and beside hostile ones of each kind. Returns the exit code. */
export function pullAmongEnemies(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const idle = readIdle(args);
    process.stdout.write(`${machineText(await describeMachine())}\n`);
    await using mirror = await startMirror({
      config: { log: { level: 'info', accesslog: { disabled: true } } },
    });
    mirror.upstream.addImage(repository, 'v1', image);
    mirror.upstream.addBlob(repository, large);
    const target: Target = {
      url: mirror.cistern.url,
      blob: `/v2/${repository}/blobs/${large.digest}`,
      manifest: `/v2/${repository}/manifests/v1`,
      idle,
    };
    await receive(target.url + target.blob);
    let failed = await measure('alone', mirror);
    for (const [name, attack] of attacks) {
      signal.throwIfAborted();
      say(`attacked with ${name}`);
      const enemies = await attack(target);
      try {
        failed += await measure(name, mirror);
      } finally {
        for (const enemy of enemies) enemy[Symbol.dispose]();
      }
    }
    return failed === 0 ? 0 : 1;
  });
}

/** Prints how long pulls take now; returns how many of them failed. */
async function measure(name: string, mirror: Mirror): Promise<number> {
  const times: number[] = [];
  let failed = 0;
  for (let count = 0; count < pulls; count += 1) {
    const began = performance.now();
    if (!(await pull(mirror))) failed += 1;
    times.push(performance.now() - began);
  }
  const { median, max } = summarize(times);
  const { resident } = await memoryOf(mirror.cistern.pid);
  process.stdout.write(
    `${name.padEnd(28)} a pull takes ${median.toFixed(1)} ms (at most ${max.toFixed(1)} ms), ` +
      `${failed} of ${pulls} failed, resident ${(resident / mebibyte).toFixed(0)} MiB\n`,
  );
  return failed;
}

/** A manifest and its layers, each whole and on a connection of its own. */
async function pull(mirror: Mirror): Promise<boolean> {
  const manifest = await receive(mirror.url(`${repository}/manifests/v1`));
  if (manifest.end !== 'complete' || manifest.status !== 200) return false;
  for (const { digest } of image.layers) {
    const layer = await receive(mirror.url(`${repository}/blobs/${digest}`));
    if (layer.end !== 'complete' || `sha256:${layer.sha256}` !== digest) return false;
  }
  return true;
}

function readIdle(args: readonly string[]): number {
  const [option, ...rest] = args;
  if (option === undefined) return idleConnections.full;
  if (option === '--quick' && rest.length === 0) return idleConnections.quick;
  throw new CannotMeasure('usage: npm run bench:hostile -- [--quick]');
}
