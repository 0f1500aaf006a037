import './typescript.mjs';

/** `npm run bench:cluster`: see docs/benchmarks.md. */
const { measureCluster } = await import('./cluster-herd.js');
process.exitCode = await measureCluster();
