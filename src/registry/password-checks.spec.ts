import type * as WorkerThreads from 'node:worker_threads';
import { hash } from 'bcryptjs';
import { expect, it, vi } from 'vitest';
import { PasswordChecks } from './password-checks.js';

const system = vi.hoisted(() => ({
  hasThreads: true,
  workers: [] as { terminate(): Promise<number>; readonly exited: Promise<void> }[],
}));

vi.mock('node:worker_threads', async (importOriginal) => {
  const original = await importOriginal<typeof WorkerThreads>();
  return {
    ...original,
    Worker: class extends original.Worker {
      readonly exited = new Promise<void>((resolve) => this.once('exit', () => resolve()));

      constructor(file: URL, options: WorkerThreads.WorkerOptions) {
        if (!system.hasThreads) throw new Error('Worker initialization failure: EAGAIN');
        super(file, options);
        system.workers.push(this);
      }
    },
  };
});

it('checks passwords again after the system had no thread to give', async () => {
  const checks = new PasswordChecks();
  const client = { name: 'client', refusal: () => undefined, isSuspect: () => false };
  const check = { password: 'right', hash: await hash('right', 4) };
  const compare = (): Promise<boolean> => checks.compare(check, client);
  const [first] = system.workers;
  await first?.terminate();
  await first?.exited;
  system.hasThreads = false;
  for (let count = 0; count < 5; count += 1) await expect(compare()).rejects.toThrow('EAGAIN');
  system.hasThreads = true;
  await expect(compare()).resolves.toBe(true);
});
