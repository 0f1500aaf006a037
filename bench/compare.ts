import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { Lab } from './lab.js';
import { describeMachine, type Machine, machineText } from './machine.js';
import { fullPlan, type Plan, quickPlan } from './plan.js';
import { publish } from './publish.js';
import type { Scenario } from './scenario.js';
import { coldPull } from './scenarios/cold-pull.js';
import { halfLoad } from './scenarios/half-load.js';
import { head } from './scenarios/head.js';
import { herd } from './scenarios/herd.js';
import { largeBlobNginx } from './scenarios/large-blob-nginx.js';
import { largeBlob } from './scenarios/large-blob.js';
import { manifestByDigest } from './scenarios/manifest-by-digest.js';
import { manifestByTag } from './scenarios/manifest-by-tag.js';
import { residentMemory } from './scenarios/resident-memory.js';
import { smallBlob } from './scenarios/small-blob.js';
import { type Row, rowOf, tableOf } from './table.js';

const scenarios: readonly Scenario[] = [
  manifestByTag,
  manifestByDigest,
  head,
  smallBlob,
  largeBlob,
  largeBlobNginx,
  halfLoad,
  coldPull,
  herd,
  residentMemory,
];

const usage = `usage: npm run bench -- [--quick] [--only NAME]... [--json FILE] [--publish]

  --quick      short rounds and smaller blobs: shows that it works, the figures mean little
  --only NAME  one scenario, may be repeated: ${scenarios.map(({ name }) => name).join(', ')}
  --json FILE  where the results go (default: bench/results/ and the time)
  --publish    puts the table into README.md and docs/benchmarks.md, between the marks bench:begin and bench:end
`;

interface Options {
  readonly plan: Plan;
  readonly chosen: readonly Scenario[];
  readonly json: string;
  readonly publish: boolean;
}

/** Compares Cistern with the registry that it replaces. Returns the exit code. */
export function compare(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = readOptions(args);
    requireParts('docker-registry', 'wrk', 'hey', 'openssl');
    const machine = await describeMachine();
    const rows = await measureAll(options, signal);
    const block = blockOf(machine, options.plan, rows);
    process.stdout.write(`${block}\n`);
    await mkdir(dirname(options.json), { recursive: true });
    await writeFile(options.json, `${JSON.stringify({ machine, plan: options.plan, rows }, undefined, 2)}\n`);
    say(`results are in ${options.json}`);
    if (options.publish) say(`the table is in ${(await publish(block)).join(' and ')}`);
    return 0;
  });
}

function readOptions(args: readonly string[]): Options {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true },
        json: { type: 'string', default: resultsFile() },
        publish: { type: 'boolean', default: false },
      },
    });
    return {
      plan: values.quick ? quickPlan : fullPlan,
      chosen: values.only === undefined ? scenarios : values.only.map((name) => scenarioOf(name)),
      json: values.json,
      publish: values.publish,
    };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(`${error.message}\n${usage}`);
  }
}

function scenarioOf(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found === undefined) throw new CannotMeasure(`there is no scenario ${name}\n${usage}`);
  return found;
}

async function measureAll({ chosen, plan }: Options, signal: AbortSignal): Promise<Row[]> {
  await using lab = await Lab.open(plan, signal);
  const rows: Row[] = [];
  for (const { name, run } of chosen) {
    say(name);
    rows.push(...(await run(lab)).map((measure) => rowOf(measure)));
  }
  return rows;
}

function blockOf(machine: Machine, plan: Plan, rows: readonly Row[]): string {
  const day = new Date().toISOString().slice(0, 10);
  return [
    tableOf(rows, `docker-registry ${machine.dockerRegistry}`),
    `Medians of ${plan.rounds} turns each (${plan.herdRounds} for the 24 clients), by turns (lowest–highest), measured on ${day}. ${machineText(machine)}.`,
  ].join('\n\n');
}

function resultsFile(): string {
  const time = new Date().toISOString().replaceAll(':', '-');
  return fileURLToPath(new URL(`results/${time}.json`, import.meta.url));
}
