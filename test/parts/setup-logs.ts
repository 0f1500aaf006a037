import { afterEach, beforeEach } from 'vitest';
import { forgetEndedLogs, logTails } from './logs.js';

// A failed test shows what the real parts said during it.
beforeEach(() => forgetEndedLogs());
afterEach(({ task }) => {
  const tails = logTails();
  if (task.result?.state === 'fail' && tails !== '') process.stderr.write(`\n${task.name}: logs\n${tails}\n`);
});
