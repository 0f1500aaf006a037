import { fileURLToPath } from 'node:url';
import { receive } from '../test/fakes/slow-client.js';
import { attacks, type Target } from '../test/hostile/attacks.js';
import { imageOf, randomLayer } from '../test/parts/image.js';
import { blobOf, type Mirror, startMirror } from '../test/parts/mirror.js';
import { startProcess, untilLogged, untilReady } from '../test/parts/process.js';
import { quickAndPublish, runBenchmark, say } from './command.js';
import { describeMachine, machineText, measuredNow } from './machine.js';
import { memoryOf, resetPeak } from './process-memory.js';
import { publish } from './publish.js';
import { asInProduction } from './replica-settings.js';
import { summarize } from './statistics.js';

const mebibyte = 1024 * 1024;
const repository = 'team/app';
const image = imageOf({ layers: [randomLayer(2 * mebibyte, 'honest')] });
const large = blobOf(32 * mebibyte, 'slow');
/** Of resident memory, at any time: what the heap may take, and the buffers of those who read slowly. */
const allowedMemory = 512 * mebibyte;

interface Extent {
  readonly idle: number;
  readonly pulls: number;
}

const full: Extent = { idle: 10_000, pulls: 50 };
const quick: Extent = { idle: 1_000, pulls: 20 };

interface Measured {
  /** Of the table, in Markdown. */
  readonly line: string;
  readonly failed: number;
  /** The most that was ever resident. */
  readonly peak: number;
}

/** The pulls of one honest client, alone and beside hostile ones of each kind. Returns the exit code. */
export function pullAmongEnemies(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = quickAndPublish(args, 'bench:hostile');
    const { idle, pulls } = options.quick ? quick : full;
    const machine = machineText(await describeMachine());
    await using mirror = await startMirror({
      config: { log: { level: 'info', accesslog: { disabled: true } } },
      env: asInProduction.env(),
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
    await pull(mirror);
    const all = [await measure('nobody', mirror, pulls)];
    for (const [name] of attacks) {
      signal.throwIfAborted();
      say(`attacked with ${name}`);
      await using enemies = await startEnemies(name, target);
      all.push(await measure(name, mirror, pulls));
      await enemies.stop();
    }
    const block = [
      '| beside | a pull takes | at most | failed | resident memory, peak | after |',
      '|---|---:|---:|---:|---:|---:|',
      ...all.map(({ line }) => line),
      '',
      measuredNow(`Medians of ${pulls} pulls each`, machine),
    ].join('\n');
    process.stdout.write(`${block}\n`);
    if (options.publish) say(`the table is in ${(await publish(block, 'bench-hostile')).join(' and ')}`);
    const holds = all.every(({ failed, peak }) => failed === 0 && peak < allowedMemory);
    process.stdout.write(holds ? 'holds\n' : 'DOES NOT HOLD\n');
    return holds ? 0 : 1;
  });
}

/** In a process of their own, so that they take the mirror's time, and not that of the client that is measured. */
async function startEnemies(name: string, target: Target) {
  const script = fileURLToPath(new URL('enemies.ts', import.meta.url));
  const enemies = await startProcess(process.execPath, [script, JSON.stringify({ name, target })]);
  await untilReady(enemies, name, (signal) => untilLogged(enemies, /at work/, signal));
  return enemies;
}

async function measure(name: string, mirror: Mirror, pulls: number): Promise<Measured> {
  const { pid } = mirror.cistern;
  await resetPeak(pid);
  const times: number[] = [];
  let failed = 0;
  for (let count = 0; count < pulls; count += 1) {
    const began = performance.now();
    if (!(await pull(mirror))) failed += 1;
    times.push(performance.now() - began);
  }
  const { median, max } = summarize(times);
  const { resident, peak } = await memoryOf(pid);
  const cells = [
    name,
    `${median.toFixed(1)} ms`,
    `${max.toFixed(0)} ms`,
    `${failed} of ${pulls}`,
    ...[peak, resident].map((bytes) => `${(bytes / mebibyte).toFixed(0)} MiB`),
  ];
  const line = `| ${cells.join(' | ')} |`;
  say(line);
  return { line, failed, peak };
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
