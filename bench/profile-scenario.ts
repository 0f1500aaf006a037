import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { scenarioNames, scenarioParts, scenariosNamed } from './all-scenarios.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { Lab } from './lab.js';
import { describeMachine, machineText } from './machine.js';
import { type Plan, profilePlan, quickPlan } from './plan.js';
import { readProfiles, summaryOf, type Work } from './profile-summary.js';
import { type Build, type Server, thisBuild } from './server.js';
import { tableOfBuilds } from './table.js';

const usage = `usage: npm run bench:profile -- SCENARIO [--quick]

  SCENARIO  ${scenarioNames.join(', ')}
  --quick   short rounds and smaller blobs
`;

/**
 * Where the time of a scenario goes, in Cistern alone: what it is compared with is Cistern, too, without the profiler,
 * so that one sees what the profiler costs. Returns the exit code.
 */
export function profileScenario(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const { name, plan } = readOptions(args);
    const chosen = scenariosNamed([name]);
    requireParts(...scenarioParts);
    const machine = await describeMachine();
    const folder = await newFolder(name);
    const work: Work[] = [];
    const profiled: Build = {
      ...thisBuild,
      env: {
        NODE_OPTIONS: `--import=${new URL('profiler.ts', import.meta.url).href}`,
        BENCH_PROFILE: folder,
      },
      beforeStop: async (server) => void work.push(await workOf(server)),
    };
    await using cleanup = new AsyncDisposableStack();
    const lab = cleanup.use(await Lab.open(plan, signal, { peer: 'cistern', cistern: profiled }));
    const measures = [];
    for (const scenario of chosen) measures.push(...(await scenario.run(lab)));
    process.stdout.write(`${tableOfBuilds(measures, 'Cistern', 'profiled')}\n\n`);
    process.stdout.write(`${summaryOf(await readProfiles(folder), work)}\n\n${machineText(machine)}.\n`);
    say(`the profiles, for a browser's developer tools, are in ${folder}`);
    return 0;
  });
}

function readOptions(args: readonly string[]): { readonly name: string; readonly plan: Plan } {
  const quick = args.includes('--quick');
  const [name, ...more] = args.filter((arg) => arg !== '--quick');
  if (name === undefined || name.startsWith('-') || more.length > 0) throw new CannotMeasure(usage);
  return { name, plan: quick ? quickPlan : profilePlan };
}

async function newFolder(name: string): Promise<string> {
  const time = new Date().toISOString().replaceAll(':', '-');
  const folder = fileURLToPath(new URL(`results/profile-${name}-${time}`, import.meta.url));
  await mkdir(folder, { recursive: true });
  return folder;
}

/** What it did, by its own count. */
async function workOf({ debugPort }: Server): Promise<Work> {
  const response = await fetch(`http://127.0.0.1:${debugPort}/metrics`);
  const metrics = await response.text();
  const sum = (name: string): number =>
    [...metrics.matchAll(new RegExp(String.raw`^${name}(?:\{.*\})? (\S+)$`, 'gm'))]
      .map(([, value]) => Number(value))
      .reduce((total, value) => total + value, 0);
  return {
    requests: sum('registry_http_requests_total'),
    bytes: sum('registry_http_response_size_bytes_sum'),
  };
}
