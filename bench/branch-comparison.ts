import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { scenarioNames, scenarioParts, scenariosNamed } from './all-scenarios.js';
import { buildCheckout, type Checkout, checkOut, hasScenario } from './checkout.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { Lab } from './lab.js';
import { describeMachine, machineText } from './machine.js';
import { buildPlan, type Plan, quickBuildPlan } from './plan.js';
import type { Measure, Scenario } from './scenario.js';
import { type Build, thisBuild } from './server.js';
import { summarize } from './statistics.js';
import { withUnit } from './table.js';
import { agreed, type Comparison, effectOf, judge, leastRounds, type Verdict } from './verdict.js';

const usage = `usage: npm run bench:compare -- BASE [--quick] [--rounds N] [--only NAME]...

  BASE         what the working tree is compared with: a branch, tag or commit, e.g. main
  --rounds N   of a look at a scenario (default: 12, at least ${leastRounds})
  --quick      shorter turns and smaller blobs: shows that it works, the figures mean less
  --only NAME  one scenario, may be repeated: ${scenarioNames.join(', ')}
`;

interface Options {
  readonly base: string;
  readonly plan: Plan;
  readonly rounds: number;
  readonly chosen: readonly Scenario[];
}

interface Builds {
  readonly base: Build;
  readonly changed: Build;
}

interface Judged {
  readonly comparison: Comparison;
  readonly verdict: Verdict;
}

/** Compares the working tree with a commit, both as Cistern. Returns the exit code: 1 where something got worse. */
export function compareBranch(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = readOptions(args);
    requireParts(...scenarioParts);
    const machine = await describeMachine();
    await using checkout = await checkOut(options.base, signal);
    say(`building ${checkout.commit}`);
    const builds = { base: await buildCheckout(checkout, signal), changed: thisBuild };
    const judged: Judged[] = [];
    process.stdout.write(headOf(checkout.commit));
    for (const scenario of await shared(options.chosen, checkout, signal)) {
      const found = await judgeScenario(scenario, builds, options, signal);
      process.stdout.write(found.map((row) => lineOf(row)).join(''));
      judged.push(...found);
    }
    process.stdout.write(`\n${conclusionOf(judged)} ${machineText(machine)}.\n`);
    const file = await keep({ base: checkout.commit, machine, judged });
    say(`results are in ${file}`);
    return judged.some(({ verdict }) => verdict === 'worse') ? 1 : 0;
  });
}

function readOptions(args: readonly string[]): Options {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '12' },
        only: { type: 'string', multiple: true },
      },
    });
    const [base, ...more] = positionals;
    const rounds = Number(values.rounds);
    if (base === undefined || more.length > 0 || !Number.isInteger(rounds) || rounds < leastRounds) {
      throw new CannotMeasure(usage);
    }
    return {
      base,
      plan: values.quick ? quickBuildPlan : buildPlan,
      rounds,
      chosen: scenariosNamed(values.only),
    };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(`${error.message}\n${usage}`);
  }
}

async function shared(
  chosen: readonly Scenario[],
  checkout: Checkout,
  signal: AbortSignal,
): Promise<Scenario[]> {
  const found: Scenario[] = [];
  for (const scenario of chosen) {
    if (await hasScenario(checkout, scenario.name, signal)) found.push(scenario);
    else say(`${scenario.name} is left out: ${checkout.commit} does not have it`);
  }
  return found;
}

/** Where the first look shows a difference there is a second, of all anew; what both say holds. */
async function judgeScenario(
  scenario: Scenario,
  builds: Builds,
  options: Options,
  signal: AbortSignal,
): Promise<Judged[]> {
  say(scenario.name);
  const first = await look(scenario, builds, options, signal);
  if (first.every(({ verdict }) => verdict === 'within the noise')) return first;
  say(`${scenario.name}: a second look`);
  const second = await look(scenario, builds, options, signal);
  return first.map(({ comparison, verdict }, row) => {
    const again = second[row];
    if (again === undefined) throw new Error(`${scenario.name} has other measures at its second look`);
    return {
      comparison: {
        ...comparison,
        base: [...comparison.base, ...again.comparison.base],
        changed: [...comparison.changed, ...again.comparison.changed],
      },
      verdict: agreed(verdict, again.verdict),
    };
  });
}

/**
 * Each round has processes of its own, for one is faster than the next for as long as it lives, and turns the order
 * round, for the second turn of a round need not be like the first.
 */
async function look(
  scenario: Scenario,
  builds: Builds,
  { plan, rounds }: Options,
  signal: AbortSignal,
): Promise<Judged[]> {
  const comparisons: Comparison[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const { base, changed } = builds;
    const turned = round % 2 === 1;
    const contestants = turned ? { peer: changed, cistern: base } : { peer: base, cistern: changed };
    await using lab = await Lab.open(plan, signal, contestants);
    for (const [row, measure] of (await scenario.run(lab)).entries()) {
      comparisons[row] = withRound(comparisons[row], turned ? swapped(measure) : measure);
    }
  }
  return comparisons.map((comparison) => ({ comparison, verdict: judge(comparison) }));
}

function swapped(measure: Measure): Measure {
  return { ...measure, peer: measure.cistern, cistern: measure.peer };
}

function withRound(
  before: Comparison | undefined,
  { title, unit, better, peer, cistern }: Measure,
): Comparison {
  return {
    title,
    unit,
    better,
    base: [...(before?.base ?? []), summarize(peer).median],
    changed: [...(before?.changed ?? []), summarize(cistern).median],
  };
}

function headOf(commit: string): string {
  return `| | better | ${commit} | working tree | tree ÷ base | |\n|---|---|---:|---:|---:|---|\n`;
}

function lineOf({ comparison, verdict }: Judged): string {
  const { title, unit, better, base, changed } = comparison;
  const effect = effectOf(comparison);
  const median = (values: readonly number[]): string => withUnit(summarize(values).median, unit);
  const ratio = `${effect.median.toFixed(3)} (${effect.min.toFixed(3)}–${effect.max.toFixed(3)})`;
  return `| ${title} | ${better} | ${median(base)} | ${median(changed)} | ${ratio} | ${verdict} |\n`;
}

function conclusionOf(judged: readonly Judged[]): string {
  const count = (wanted: Verdict): number => judged.filter(({ verdict }) => verdict === wanted).length;
  return `${count('worse')} worse, ${count('better')} better, ${count('within the noise')} within the noise.`;
}

async function keep(results: unknown): Promise<string> {
  const time = new Date().toISOString().replaceAll(':', '-');
  const file = fileURLToPath(new URL(`results/compare-${time}.json`, import.meta.url));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`);
  return file;
}
