import './typescript.mjs';

/** `npm run bench:hostile-soak`: see docs/soak.md. */
const { hostileSoak } = await import('./hostile-soak/run.js');
process.exitCode = await hostileSoak(process.argv.slice(2));
