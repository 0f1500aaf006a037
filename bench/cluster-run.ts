import { parseArgs } from 'node:util';
import { cephParts, startCephRgw } from '../test/parts/ceph-rgw.js';
import { has } from '../test/parts/debian.js';
import { S3Counter } from '../test/parts/s3-counter.js';
import { newBucket, newFolder } from '../test/parts/stores.js';
import { costPlan, measureCosts, quickCostPlan, type CostStore } from './cluster-cost.js';
import { herdHead, herds, measureHerd, quickHerds, type HerdStore } from './cluster-herd.js';
import { costTable, growing } from './cluster-table.js';
import { requireParts, runBenchmark, say } from './command.js';
import { describeMachine, machineText } from './machine.js';
import { publish } from './publish.js';

const usage = `usage: npm run bench:cluster -- [--quick] [--only herds|costs] [--publish]

  --quick    small and once: shows that it works
  --only     one of the two tables
  --publish  puts what was measured into docs/benchmarks.md, between the marks cluster-herds and cluster-costs
`;

interface Options {
  readonly quick: boolean;
  readonly only: 'herds' | 'costs' | undefined;
  readonly publish: boolean;
}

/** A folder, and a bucket where Ceph is installed. */
type Store = HerdStore & CostStore;

/** What replicas share: how long cold content takes to reach many clients, and what each further replica costs. */
export function measureCluster(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = readOptions(args);
    if (options === undefined) {
      process.stderr.write(usage);
      return 2;
    }
    requireParts('redis-server');
    const machine = machineText(await describeMachine());
    await using cleanup = new AsyncDisposableStack();
    const stores: Store[] = [{ title: 'folder', newStore: newFolder, s3: undefined }];
    if (cephParts.every((part) => has(part))) stores.push(await startBucket(cleanup));
    else say('without a bucket: Ceph is not installed');
    if (options.only !== 'costs') await reportHerds(stores, options, machine, signal);
    return options.only === 'herds' ? 0 : await reportCosts(stores, options, machine, signal);
  });
}

async function startBucket(cleanup: AsyncDisposableStack): Promise<Store> {
  const rgw = cleanup.use(await startCephRgw());
  const s3 = cleanup.use(await S3Counter.start(rgw.regionendpoint));
  return { title: 'bucket', newStore: () => newBucket(rgw, { endpoint: s3.url }), s3 };
}

async function reportHerds(
  stores: readonly Store[],
  options: Options,
  machine: string,
  signal: AbortSignal,
): Promise<void> {
  const lines = [herdHead];
  for (const herd of options.quick ? quickHerds : herds) {
    for (const store of stores) lines.push(await measureHerd(herd, store, signal));
  }
  await report('cluster-herds', [lines.join('\n'), machine], options);
}

async function reportCosts(
  stores: readonly Store[],
  options: Options,
  machine: string,
  signal: AbortSignal,
): Promise<number> {
  const plan = options.quick ? quickCostPlan : costPlan;
  const parts: string[] = [];
  const faults: string[] = [];
  for (const store of stores) {
    const rows = await measureCosts(plan, store, signal);
    parts.push(`Over a ${store.title}:`, costTable(rows, plan.clients, store.s3 !== undefined));
    faults.push(...growing(rows).map((fault) => `over a ${store.title}, ${fault}`));
  }
  await report('cluster-costs', [...parts, machine], options);
  for (const fault of faults) say(`not constant: ${fault}`);
  return faults.length === 0 ? 0 : 1;
}

async function report(marks: string, parts: readonly string[], options: Options): Promise<void> {
  const block = parts.join('\n\n');
  process.stdout.write(`${block}\n\n`);
  if (options.publish) say(`put into ${(await publish(block, marks)).join(' and ')}`);
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        publish: { type: 'boolean', default: false },
      },
    });
    const { quick, only, publish: isPublished } = values;
    if (only !== undefined && only !== 'herds' && only !== 'costs') return undefined;
    return { quick, only, publish: isPublished };
  } catch (error) {
    if (error instanceof TypeError) return undefined; // of parseArgs: an option that is none
    throw error;
  }
}
