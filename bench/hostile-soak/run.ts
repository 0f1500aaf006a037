import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cephParts } from '../../test/parts/ceph-rgw.js';
import { type RunningProcess, startProcess, untilLogged, untilReady } from '../../test/parts/process.js';
import { CannotMeasure, requireParts, runBenchmark, say } from '../command.js';
import { describeMachine, machineText, measuredNow } from '../machine.js';
import { publish } from '../publish.js';
import { randomOf } from '../random.js';
import { slopeOf } from '../slope.js';
import { hosts, largeRepository, type Published } from './contents.js';
import type { EnemyResult, EnemyTask } from './enemy-kinds.js';
import { causeFaults } from './faults.js';
import { type HonestTally, pullHonestly } from './honest.js';
import { lieNames } from './liar.js';
import type { ProbeResult } from './probe.js';
import { untilHealthy } from './replicas.js';
import { Report, type RunResult } from './report.js';
import { basicOf, makeScene, type Scene } from './scene.js';

const honestCount = 6;
const probeEveryMs = 100;
/** The share of the images that clients ask for from the start. The others follow in the course of the run. */
const knownAtFirst = 0.3;
/** The share of the run until the caches have filled. */
const warmUp = 1 / 3;
const usage = 'usage: npm run bench:hostile-soak -- [--minutes 10] [--seed 1] [--log FILE] [--publish]';

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly log: string | undefined;
  readonly publish: boolean;
}

/** Runs honest pulls beside all hostile clients. Returns the exit code: 0 if every count that must be zero is zero. */
export function hostileSoak(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = optionsOf(args);
    requireParts('redis-server', 'faketime', ...cephParts);
    const machine = machineText(await describeMachine());
    const began = performance.now();
    const log: string[] = [];
    const note = (text: string): void => {
      const line = `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`;
      log.push(line);
      say(line);
    };
    let result: RunResult;
    {
      await using cleanup = new AsyncDisposableStack();
      const scene = await makeScene(cleanup, randomOf(options.seed), note);
      result = await attack(cleanup, scene, options, note, signal);
    }
    signal.throwIfAborted();
    const report = new Report(result);
    const what = `${options.minutes} minutes, seed ${options.seed}`;
    const block = `${report.table()}\n\n${measuredNow(what, machine)}`;
    process.stdout.write(`${block}\n\n${report.holds ? 'holds' : 'DOES NOT HOLD'}\n`);
    if (options.log !== undefined) await writeFile(options.log, `${block}\n\n${log.join('\n')}\n`);
    if (options.publish) say(`the table is in ${(await publish(block, 'hostile-soak')).join(' and ')}`);
    return report.holds ? 0 : 1;
  });
}

function optionsOf(args: readonly string[]): Options {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        minutes: { type: 'string', default: '10' },
        seed: { type: 'string', default: '1' },
        log: { type: 'string' },
        publish: { type: 'boolean', default: false },
      },
    });
    const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
    if (!(minutes > 0 && minutes <= 120 && Number.isInteger(seed)))
      throw new TypeError('--minutes must be above 0 and at most 120, --seed a whole number');
    return { minutes, seed, log: values.log, publish: values.publish };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(`${error.message}\n${usage}`);
  }
}

async function attack(
  cleanup: AsyncDisposableStack,
  scene: Scene,
  { minutes, seed }: Options,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<RunResult> {
  const { replicas, contents } = scene;
  const urls = replicas.map(({ url }) => url);
  const random = randomOf(seed + 1);
  const tally: HonestTally = { pulls: 0, requests: 0, bytes: 0, failures: 0, wrong: 0 };
  await untilHealthy(replicas, signal);
  const probe = cleanup.use(
    await startScript('probe.ts', JSON.stringify({ urls, every: probeEveryMs, from: '127.0.3.1' })),
  );
  const taskFile = join(scene.folder, 'enemies.json');
  await writeFile(taskFile, JSON.stringify(enemyTask(scene, seed)));
  const enemies = cleanup.use(await startScript('enemies.ts', taskFile));
  note('all clients are at work');
  const began = performance.now();
  const elapsed = (): number => (performance.now() - began) / 60_000;
  const until = AbortSignal.any([signal, AbortSignal.timeout(Math.round(minutes * 60_000))]);
  const published = (): readonly Published[] => {
    const share = knownAtFirst + (1 - knownAtFirst) * Math.min(1, elapsed() / minutes);
    return [...contents.private, ...contents.honest.slice(0, Math.ceil(contents.honest.length * share))];
  };
  const honest = { urls, authorization: basicOf('honest'), random, tally, note, published };
  const clients = Array.from({ length: honestCount }, (_, index) =>
    pullHonestly(honest, `127.0.1.${index + 1}`, until),
  );
  const following = replicas.map((replica) => replica.followMemory(until, elapsed));
  const [faults] = await Promise.all([
    causeFaults({ ...scene, random, note }, until),
    ...clients,
    ...following,
  ]);
  signal.throwIfAborted();
  const enemyResult = await resultOf<EnemyResult>(enemies);
  const health = await resultOf<ProbeResult>(probe);
  for (const [title, lines] of Object.entries({
    'NO ANSWER': enemyResult.unanswered,
    OPENED: enemyResult.opened,
    WRONG: enemyResult.wrong,
  })) {
    for (const line of lines.slice(0, 50)) note(`${title}: ${line}`);
  }
  const unhandled = await Promise.all(replicas.map((replica) => replica.unhandledErrors()));
  const jobs = await Promise.all(replicas.map((replica) => replica.jobRuns()));
  await Promise.all(replicas.map((replica) => replica.stop()));
  return {
    faults,
    tally,
    enemies: enemyResult,
    health,
    jobs,
    storage: scene.front.counts,
    replicas: replicas.map(({ exits, unhandledLines, memory }, index) => {
      const settled = memory.slice(Math.floor(memory.length * warmUp));
      const sizes = memory.map(([, mebibytes]) => mebibytes);
      return {
        exits,
        unhandled: (unhandled[index] ?? 0) + unhandledLines.length,
        memory: { last: sizes.at(-1) ?? 0, most: Math.max(0, ...sizes), slope: slopeOf(settled) },
      };
    }),
  };
}

async function startScript(name: string, argument: string): Promise<RunningProcess> {
  const script = fileURLToPath(new URL(name, import.meta.url));
  const running = await startProcess(process.execPath, [script, argument]);
  await untilReady(running, name, (signal) => untilLogged(running, /at work/, signal));
  return running;
}

/** Ends a script by SIGTERM and returns its result: the last line of JSON that it wrote. */
async function resultOf<T>(script: RunningProcess): Promise<T> {
  await script.stop();
  const line = script
    .log()
    .trimEnd()
    .split('\n')
    .findLast((each) => each.startsWith('{'));
  if (line === undefined) throw new Error(`a script ended without a result:\n${script.log().slice(-2000)}`);
  return JSON.parse(line) as T;
}

function enemyTask({ contents, replicas }: Scene, seed: number): EnemyTask {
  const blobsOf = (all: readonly Published[]) =>
    all.flatMap(({ repository, image }) =>
      [image.config, ...image.layers].map(({ digest, size }) => ({
        path: `/v2/${repository}/blobs/${digest}`,
        digest,
        size,
      })),
    );
  const manifestsOf = (all: readonly Published[]) =>
    all.map(({ repository, tag, image }) => ({
      path: `/v2/${repository}/manifests/${tag}`,
      digest: image.manifest.digest,
    }));
  return {
    seed: seed + 2,
    urls: replicas.map(({ url }) => url),
    clusterUrls: replicas.map(({ clusterPort }) => `http://127.0.0.1:${clusterPort}`),
    tenant: basicOf('tenant'),
    blobs: blobsOf(contents.honest).map(({ path }) => path),
    largeBlob: `/v2/${largeRepository}/blobs/${contents.large.digest}`,
    manifests: manifestsOf(contents.honest).map(({ path }) => path),
    unreadable: [...manifestsOf(contents.unreadable), ...blobsOf(contents.unreadable)],
    private: blobsOf(contents.private),
    nested: contents.nested.map(({ digest }) => `/v2/${hosts.liar}/nested/manifests/${digest}`),
    lies: lieNames,
    liarHost: hosts.liar,
  };
}
