import './typescript.mjs';

/** `npm run bench:loop-delay`: see docs/benchmarks.md. */
const { measureLoopDelay } = await import('./loop-delay-run.js');
process.exitCode = await measureLoopDelay(process.argv.slice(2));
