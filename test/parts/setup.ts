import { afterAll, afterEach, beforeEach } from 'vitest';
import { forgetEndedLogs, logTails, unhandledErrors } from './logs.js';
import { endAll } from './process.js';

// A failed test shows what the real parts said during it.
beforeEach(() => forgetEndedLogs());
afterEach(({ task }) => {
  const tails = logTails();
  if (task.result?.state === 'fail' && tails !== '') process.stderr.write(`\n${task.name}: logs\n${tails}\n`);
});

// Registered before any of the file's own hooks, so it runs after them all.
afterAll(async () => {
  const left = await endAll();
  const unhandled = unhandledErrors();
  if (unhandled.length > 0) throw new Error(`mirrors did not handle errors:\n${unhandled.join('\n')}`);
  if (left.length > 0) throw new Error(`processes were left running and are ended now: ${left.join('; ')}`);
});
