import './typescript.mjs';

/** `npm run bench:passwords`: see docs/benchmarks.md. */
const { pullBesideWrongPasswords } = await import('./wrong-passwords.js');
process.exitCode = await pullBesideWrongPasswords(process.argv.slice(2));
