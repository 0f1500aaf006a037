import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { scenarioNames, scenarioParts, scenariosNamed } from './all-scenarios.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { Lab } from './lab.js';
import { describeMachine, type Machine, machineText, measuredNow } from './machine.js';
import { fullPlan, type Plan, quickPlan } from './plan.js';
import { publish } from './publish.js';
import type { Scenario } from './scenario.js';
import { type Row, rowOf, shortTableOf, tableOf } from './table.js';

const usage = `usage: npm run bench -- [--quick] [--only NAME]... [--json FILE] [--publish]

  --quick      short rounds and smaller blobs: shows that it works, the figures mean little
  --only NAME  one scenario, may be repeated: ${scenarioNames.join(', ')}
  --json FILE  where the results go (default: bench/results/ and the time)
  --publish    puts the table into docs/benchmarks.md and, in short, into README.md, between their marks
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
    requireParts(...scenarioParts);
    const machine = await describeMachine();
    const rows = await measureAll(options, signal);
    const peer = `docker-registry ${machine.dockerRegistry}`;
    const footer = footerOf(machine, options.plan);
    const block = `${tableOf(rows, peer)}\n\n${footer}`;
    process.stdout.write(`${block}\n`);
    await mkdir(dirname(options.json), { recursive: true });
    await writeFile(options.json, `${JSON.stringify({ machine, plan: options.plan, rows }, undefined, 2)}\n`);
    say(`results are in ${options.json}`);
    if (options.publish) {
      await publish(block);
      await publish(`${shortTableOf(rows, peer)}\n\n${footer}`, 'bench-short');
      say('the tables are in README.md and docs/benchmarks.md');
    }
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
      chosen: scenariosNamed(values.only),
      json: values.json,
      publish: values.publish,
    };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(`${error.message}\n${usage}`);
  }
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

function footerOf(machine: Machine, { rounds }: Plan): string {
  return measuredNow(`Medians of ${rounds} turns each, by turns (lowest–highest)`, machineText(machine));
}

function resultsFile(): string {
  const time = new Date().toISOString().replaceAll(':', '-');
  return fileURLToPath(new URL(`results/${time}.json`, import.meta.url));
}
