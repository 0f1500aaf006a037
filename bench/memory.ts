import './typescript.mjs';

/** `npm run bench:memory`: see docs/benchmarks.md. */
const { checkMemory } = await import('./slow-clients.js');
process.exitCode = await checkMemory(process.argv.slice(2));
