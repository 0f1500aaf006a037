import '../../bench/typescript.mjs';

/** `npm run fuzz [seed]`: a million cases, and as many again with each other seed. */
const { fuzzed } = await import('./properties.js');
const seed = Number(process.argv[2] ?? Date.now() % 2 ** 31);
let cases = 0;
const begun = performance.now();
for (const { name, share, check } of fuzzed) {
  check(share, seed);
  cases += share;
  process.stdout.write(`${name}: ${share} cases\n`);
}
const seconds = ((performance.now() - begun) / 1000).toFixed(0);
process.stdout.write(`${cases} cases without a crash, a hang or an escape, seed ${seed}, ${seconds} s\n`);
