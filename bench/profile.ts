import './typescript.mjs';

/** `npm run bench:profile`: see docs/performance.md. */
const { profileScenario } = await import('./profile-scenario.js');
// As in run.ts.
process.exit(await profileScenario(process.argv.slice(2)));
