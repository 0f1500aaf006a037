import './typescript.mjs';

/** `npm run bench:compare`: see docs/benchmarks.md. */
const { compareBranch } = await import('./branch-comparison.js');
// As in run.ts.
process.exit(await compareBranch(process.argv.slice(2)));
