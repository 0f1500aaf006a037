import './typescript.mjs';

/** `npm run bench:cluster`: see docs/benchmarks.md. */
const { measureCluster } = await import('./cluster-run.js');
process.exitCode = await measureCluster(process.argv.slice(2));
