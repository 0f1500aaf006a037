import { afterEach, describe, expect, it, vi } from 'vitest';
import { StorageError } from '../storage/storage.js';
import type { Route } from '../upstream/directory.js';
import { StoreTrouble } from './store-trouble.js';

const broken = (): Promise<never> => Promise.reject(new StorageError('io', 'reading failed: EIO'));
const sound = (): Promise<string> => Promise.resolve('content');

function storeAt(ask = () => Promise.resolve<unknown>(undefined)): {
  trouble: StoreTrouble;
  lines: string[];
  clock: { now: number };
} {
  const clock = { now: 0 };
  const lines: string[] = [];
  const write = (level: string) => (_facts: unknown, message?: string) =>
    void lines.push(`${level}: ${message}`);
  const log = { info: write('info'), warn: write('warn'), debug: () => undefined };
  const metrics = { storageFailures: { inc: () => undefined } };
  // Of the log and the counter it uses what is here.
  const parts = [log, metrics] as unknown as ConstructorParameters<typeof StoreTrouble>;
  return { trouble: new StoreTrouble(parts[0], parts[1], ask, () => clock.now), lines, clock };
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

describe('a store that does not answer', () => {
  const silent = (): Promise<never> => Promise.reject(new StorageError('silent', 'no answer'));
  const never = (): Promise<never> => new Promise(() => undefined);
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is not asked again for a request, and no request waits for a write, until it answers', async () => {
    vi.useFakeTimers();
    const answers = vi.fn(silent as () => Promise<unknown>);
    const { trouble } = storeAt(answers);
    const asked = vi.fn(sound);
    await trouble.survive(silent);
    expect(await trouble.survive(asked)).toBeUndefined();
    await trouble.awaitWrite(never());
    expect(asked).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await trouble.survive(asked)).toBeUndefined();
    answers.mockResolvedValue(undefined);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await trouble.survive(asked)).toBe('content');
    expect(answers).toHaveBeenCalledTimes(2);
  });

  it('answers where it refuses the question', async () => {
    vi.useFakeTimers();
    const { trouble } = storeAt(() => Promise.reject(new StorageError('denied', 'refused')));
    await trouble.survive(silent);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await trouble.survive(sound)).toBe('content');
  });

  it('is still asked where it answered another request meanwhile', async () => {
    const { trouble, clock } = storeAt();
    const late = Promise.withResolvers<never>();
    const waiting = trouble.survive(() => late.promise);
    clock.now = 1;
    await trouble.survive(sound);
    late.reject(new StorageError('silent', 'no answer for one object'));
    await waiting;
    expect(await trouble.survive(sound)).toBe('content');
  });

  it('delays a client by a write for three seconds at most', async () => {
    vi.useFakeTimers();
    const { trouble } = storeAt();
    const waiting = trouble.awaitWrite(never());
    const ended = vi.fn();
    const end = waiting.then(ended);
    await vi.advanceTimersByTimeAsync(2_999);
    expect(ended).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    await end;
    expect(ended).toHaveBeenCalled();
  });
});
