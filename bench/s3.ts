import './typescript.mjs';

/** `npm run bench:s3`: see docs/benchmarks.md. */
const { measureS3 } = await import('./s3-gateway.js');
process.exit(await measureS3(process.argv.slice(2)));
