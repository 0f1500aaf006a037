import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { hash } from 'bcryptjs';
import { temporaryFolder } from '../test/parts/folder.js';
import { imageOf, randomLayer } from '../test/parts/image.js';
import { type Mirror, startMirror } from '../test/parts/mirror.js';
import { type RunningProcess, startProcess, untilLogged, untilReady } from '../test/parts/process.js';
import { quickAndPublish, runBenchmark, say } from './command.js';
import { describeMachine, machineText, measuredNow } from './machine.js';
import { publish } from './publish.js';
import { asInProduction } from './replica-settings.js';

const repository = 'team/app';
const image = imageOf({ layers: [randomLayer(256 * 1024, 'honest')] });
const user = 'ann';
const authorization = `Basic ${Buffer.from(`${user}:right`).toString('base64')}`;
/** The bcrypt cost in Docker's documentation and in many tools. The default of `htpasswd -B` is 5. */
const cost = 10;
/** Clients with wrong passwords, each with one connection. */
const guessers = 30;
const honestClients = 4;
/** Honest pulls must keep at least this share of the throughput that they have alone. */
const leastRatio = 0.5;

interface Extent {
  readonly rounds: number;
  readonly secondsEach: number;
}

const full: Extent = { rounds: 5, secondsEach: 5 };
const quick: Extent = { rounds: 2, secondsEach: 3 };

interface Round {
  /** Honest pulls per second. */
  readonly alone: number;
  readonly beside: number;
  /** Numbers of the guessers' answers, by status. */
  readonly answers: Readonly<Record<string, number>>;
}

/** Measures honest pulls alone and beside wrong passwords, by turns. Returns the exit code. */
export function pullBesideWrongPasswords(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = quickAndPublish(args, 'bench:passwords');
    const extent = options.quick ? quick : full;
    const machine = machineText(await describeMachine());
    await using folder = await temporaryFolder();
    await using mirror = await startWithUser(join(folder.path, 'htpasswd'));
    const agent = new Agent({ keepAlive: true });
    using _ = { [Symbol.dispose]: () => agent.destroy() };
    await throughput(mirror, agent, 1, signal);
    const rounds: Round[] = [];
    for (let index = 1; index <= extent.rounds; index += 1) {
      rounds.push(await measure(mirror, agent, index, extent.secondsEach, signal));
      say(rowOf(index, rounds.at(-1)));
    }
    const ratio = sum(rounds, 'beside') / sum(rounds, 'alone');
    const block = [
      '| round | honest pulls alone | beside wrong passwords | ratio | answers to wrong passwords |',
      '|---|---:|---:|---:|---|',
      ...rounds.map((round, index) => rowOf(index + 1, round)),
      '',
      `Over all rounds, honest pulls keep ${ratio.toFixed(2)} of their throughput (at least ${leastRatio} is required).`,
      '',
      measuredNow(`${extent.rounds} rounds of ${extent.secondsEach} s each way`, machine),
    ].join('\n');
    process.stdout.write(`${block}\n`);
    if (options.publish) say(`the table is in ${(await publish(block, 'bench-passwords')).join(' and ')}`);
    return ratio >= leastRatio ? 0 : 1;
  });
}

async function startWithUser(path: string): Promise<Mirror> {
  await writeFile(path, `${user}:${await hash('right', cost)}\n`);
  const mirror = await startMirror({
    config: {
      log: { level: 'info', accesslog: { disabled: true } },
      auth: { htpasswd: { realm: 'bench', path } },
    },
    env: asInProduction.env(),
  });
  mirror.upstream.addImage(repository, 'v1', image);
  return mirror;
}

/** Each round uses new addresses for the guessers, so the back-off of earlier rounds does not help the mirror. */
async function measure(
  mirror: Mirror,
  agent: Agent,
  round: number,
  seconds: number,
  signal: AbortSignal,
): Promise<Round> {
  const alone = await throughput(mirror, agent, seconds, signal);
  const addresses = Array.from({ length: guessers }, (_, index) => `127.1.${round}.${index + 1}`);
  await using enemies = await startGuessers(mirror, addresses);
  const beside = await throughput(mirror, agent, seconds, signal);
  await enemies.stop();
  const [, answers = '{}'] = /at work\n(\{.*\})/.exec(enemies.log()) ?? [];
  return { alone, beside, answers: JSON.parse(answers) as Round['answers'] };
}

async function startGuessers(mirror: Mirror, addresses: readonly string[]): Promise<RunningProcess> {
  const script = fileURLToPath(new URL('password-guesser.ts', import.meta.url));
  const target = { url: mirror.url(`${repository}/manifests/v1`), user, addresses };
  const enemies = await startProcess(process.execPath, [script, JSON.stringify(target)]);
  await untilReady(enemies, 'the guessers', (signal) => untilLogged(enemies, /at work/, signal));
  return enemies;
}

/** Honest pulls per second. Throws if one fails. */
async function throughput(
  mirror: Mirror,
  agent: Agent,
  seconds: number,
  signal: AbortSignal,
): Promise<number> {
  const began = performance.now();
  const until = began + seconds * 1000;
  let pulls = 0;
  const client = async (): Promise<void> => {
    while (performance.now() < until) {
      signal.throwIfAborted();
      await pull(mirror, agent);
      pulls += 1;
    }
  };
  await Promise.all(Array.from({ length: honestClients }, client));
  return pulls / ((performance.now() - began) / 1000);
}

/** Pulls the manifest and its layers. */
async function pull(mirror: Mirror, agent: Agent): Promise<void> {
  await receive(mirror.url(`${repository}/manifests/v1`), agent);
  for (const { digest } of image.layers) await receive(mirror.url(`${repository}/blobs/${digest}`), agent);
}

function receive(url: string, agent: Agent): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  get(url, { agent, headers: { authorization } }, (response) => {
    const failed = (): void => reject(new Error(`an honest pull of ${url} got ${response.statusCode}`));
    response.once('end', () => (response.statusCode === 200 ? resolve() : failed())).once('error', reject);
    response.resume();
  }).once('error', reject);
  return promise;
}

function sum(rounds: readonly Round[], key: 'alone' | 'beside'): number {
  return rounds.reduce((total, round) => total + round[key], 0);
}

function rowOf(number: number, round: Round | undefined): string {
  if (round === undefined) return '';
  const { alone, beside, answers } = round;
  const counts = Object.entries(answers).map(([status, count]) => `${count} × ${status}`);
  const cells = [
    String(number),
    `${alone.toFixed(0)}/s`,
    `${beside.toFixed(0)}/s`,
    (beside / alone).toFixed(2),
    counts.join(', '),
  ];
  return `| ${cells.join(' | ')} |`;
}
