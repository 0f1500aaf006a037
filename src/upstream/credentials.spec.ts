import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { settleMs } from '../config/watched-file.js';
import { basicHeader, filePassword, fixedPassword } from './credentials.js';

describe('passwords', () => {
  it('come from the configuration', () => {
    expect(fixedPassword('secret')()).toBe('secret');
  });

  it('come from a file, as it is now, without the newline at its end', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'password-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const path = join(folder, 'password');
    const password = filePassword(path, { error: () => undefined });
    await expect(password()).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(path, ' first \n');
    expect(await password()).toBe(' first ');
    await writeFile(path, 'the second\n');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * settleMs });
    onTestFinished(() => void vi.useRealTimers());
    expect(await password()).toBe('the second');
  });

  it('may have any character in the Basic scheme', () => {
    expect(basicHeader('user', 'pä:ss')).toBe(`Basic ${Buffer.from('user:pä:ss').toString('base64')}`);
  });
});
