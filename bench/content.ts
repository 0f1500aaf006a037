import './typescript.mjs';

/** `npm run bench:content`: see docs/benchmarks.md. */
const { measureContent } = await import('./content-jobs.js');
process.exitCode = await measureContent(process.argv.slice(2));
