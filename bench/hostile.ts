import './typescript.mjs';

/** `npm run bench:hostile`: see docs/benchmarks.md. */
const { pullAmongEnemies } = await import('./hostile-clients.js');
process.exitCode = await pullAmongEnemies(process.argv.slice(2));
