import './typescript.mjs';

/** `npm run bench:soak`: see docs/soak.md. */
const { soak } = await import('./soak-run.js');
process.exitCode = await soak(process.argv.slice(2));
