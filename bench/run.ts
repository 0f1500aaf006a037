import './typescript.mjs';

/** `npm run bench`: see docs/benchmarks.md. */
const { compare } = await import('./compare.js');
// Everything has ended by now. Left to itself, Node can spin for ever over sockets that were reset while they closed.
process.exit(await compare(process.argv.slice(2)));
