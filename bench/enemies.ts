import './typescript.mjs';
import type { Target } from '../test/hostile/attacks.js';

/** One kind of hostile clients, in a process of its own: says when all of them are at work, and goes on until ended. */
const { attacks } = await import('../test/hostile/attacks.js');
const { name, target } = JSON.parse(process.argv[2] ?? '') as { name: string; target: Target };
const attack = attacks.find(([each]) => each === name)?.[1];
if (attack === undefined) throw new TypeError(`there is no attack with ${name}`);
await attack(target);
process.stdout.write('at work\n');
