import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import type { PasswordCheck } from './password-checks.js';

/**
 * The nice value of this thread: on a busy machine pulls run before password checks. A larger value delayed the login of
 * an honest client beyond its time limit on a machine without an idle processor.
 */
const niceness = 5;

// On Linux this is the priority of this thread alone.
if (process.platform === 'linux') lowerPriority();

parentPort?.on('message', ({ password, hash }: PasswordCheck) => {
  parentPort?.postMessage(compareSync(password, hash));
});

function lowerPriority(): void {
  try {
    setPriority(niceness);
  } catch {
    // A sandbox may refuse it. Checks then compete with pulls for the processors.
  }
}
