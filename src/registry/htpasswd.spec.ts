import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { settleMs } from '../config/watched-file.js';
import { Htpasswd, parseHtpasswd } from './htpasswd.js';

const log = { error: () => undefined };
let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-htpasswd-'));
  path = join(folder, 'htpasswd');
  await writeFile(path, `# users\nann:${await hash('right', 4)}\n`);
});
afterEach(() => rm(folder, { recursive: true }));

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
const challenge = { code: 'UNAUTHORIZED', headers: { 'WWW-Authenticate': 'Basic realm="the \\"realm\\""' } };

describe('htpasswd', () => {
  it('lets in who knows the password, again and again', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    expect(await htpasswd.login(basic('ann:right'))).toMatchObject({ user: 'ann' });
    expect(await htpasswd.login(basic('ann:right'))).toMatchObject({ user: 'ann' });
  });

  it.each([
    undefined,
    '',
    'Bearer x',
    'Basic',
    'Basic !!',
    basic('ann'),
    basic('ann:wrong'),
    basic('bob:right'),
    basic(':right'),
  ])('challenges %j', async (header) => {
    const htpasswd = new Htpasswd(path, 'the "realm"', log);
    await htpasswd.login(basic('ann:right'));
    expect(await htpasswd.login(header)).toBe(header === undefined ? undefined : 'refused');
    expect(htpasswd.challenge()).toMatchObject(challenge);
  });

  it('notices a changed file, also for passwords that were right before', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    await htpasswd.login(basic('ann:right'));
    await writeFile(path, `ann:${await hash('other', 4)}\nbob:${await hash('new', 4)}\n`);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * settleMs });
    onTestFinished(() => void vi.useRealTimers());
    expect(await htpasswd.login(basic('ann:right'))).toBe('refused');
    expect(await htpasswd.login(basic('bob:new'))).toMatchObject({ user: 'bob' });
  });

  it('takes bcrypt only, as registry does', () => {
    const entries = parseHtpasswd(
      `a:{SHA}x\nb:$apr1$x$y\nc:plain\nd:$2y$05$${'a'.repeat(53)}\r\n:x\nnocolon\n`,
    );
    expect([...entries.keys()]).toEqual(['d']);
  });
});
