import '../typescript.mjs';
import type { EnemyTask } from './enemy-kinds.js';

/** Runs all hostile clients in a process of their own. Writes their results as JSON on SIGTERM. */
const { Enemies } = await import('./enemy-kinds.js');
const { readFileSync } = await import('node:fs');
const task = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as EnemyTask;
const enemies = new Enemies(task);
process.once('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(enemies.result())}\n`, () => process.exit(0));
});
process.stdout.write('at work\n');
await enemies.attack();
