import './typescript.mjs';

/** `npm run bench:growth`: see docs/benchmarks.md. */
const { measureGrowth } = await import('./growth-run.js');
process.exitCode = await measureGrowth(process.argv.slice(2));
