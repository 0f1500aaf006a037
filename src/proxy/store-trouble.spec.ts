import { describe, expect, it } from 'vitest';
import { StorageError } from '../storage/storage.js';
import type { Route } from '../upstream/directory.js';
import { StoreTrouble } from './store-trouble.js';

const broken = (): Promise<never> => Promise.reject(new StorageError('io', 'reading failed: EIO'));
const sound = (): Promise<string> => Promise.resolve('content');

function storeAt(): { trouble: StoreTrouble; lines: string[]; clock: { now: number } } {
  const clock = { now: 0 };
  const lines: string[] = [];
  const write = (level: string) => (_facts: unknown, message?: string) =>
    void lines.push(`${level}: ${message}`);
  const log = { info: write('info'), warn: write('warn'), debug: () => undefined };
  const metrics = { storageFailures: { inc: () => undefined } };
  // Of the log and the counter it uses what is here.
  const parts = [log, metrics] as unknown as ConstructorParameters<typeof StoreTrouble>;
  return { trouble: new StoreTrouble(parts[0], parts[1], () => clock.now), lines, clock };
}

describe('a store in trouble', () => {
  it('is as good as an empty one, and said to be once', async () => {
    const { trouble, lines } = storeAt();
    for (let times = 0; times < 5; times += 1) expect(await trouble.survive(broken)).toBeUndefined();
    expect(lines).toEqual(['warn: the store is in trouble, going on without it']);
  });

  it('is said to be back when nothing has failed for a while', async () => {
    const { trouble, lines, clock } = storeAt();
    await trouble.survive(broken);
    expect(await trouble.survive(sound)).toBe('content');
    clock.now = 9_000;
    await trouble.survive(broken);
    clock.now = 18_000;
    await trouble.survive(sound);
    expect(lines).toHaveLength(1);
    clock.now = 20_000;
    await trouble.survive(sound);
    expect(lines.slice(1)).toEqual(['info: the store is used again']);
    await trouble.survive(broken);
    expect(lines).toHaveLength(3);
  });

  it('is told where there is no upstream, and so is what else goes wrong', async () => {
    const { trouble } = storeAt();
    const route = { upstream: undefined } as Route;
    await expect(trouble.read(route, broken)).rejects.toThrow(StorageError);
    await expect(trouble.survive(() => Promise.reject(new TypeError('a fault')))).rejects.toThrow(TypeError);
  });
});
