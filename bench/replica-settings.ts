import type { ReplicasOptions } from '../test/parts/replicas.js';
import { overlay, type Settings } from '../test/parts/cistern.js';
import { jobNames } from '../src/scheduler/job.js';

const onDemand = Object.fromEntries(jobNames.map((name) => [name, { schedule: 'never' }]));

/** Replicas as they run in production: the log as it is there, what `npm start` gives Node, and no job meanwhile. */
export const asInProduction = {
  config: (): Settings =>
    overlay(
      { log: { level: 'info' }, storage: { cache: { blobdescriptor: 'redis' } } },
      { scheduler: onDemand },
    ),
  env: () => ({
    NODE_OPTIONS: '--max-semi-space-size=2 --max-old-space-size=384',
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '131072',
  }),
} satisfies Pick<ReplicasOptions, 'config' | 'env'>;
