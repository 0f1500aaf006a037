import { constants, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import type { PasswordCheck } from './password-checks.js';

// On Linux this is the priority of this thread alone: on a busy machine pulls run before password checks.
if (process.platform === 'linux') lowerPriority();

parentPort?.on('message', ({ password, hash }: PasswordCheck) => {
  parentPort?.postMessage(compareSync(password, hash));
});

function lowerPriority(): void {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // A sandbox may refuse it. Checks then compete with pulls for the processors.
  }
}
