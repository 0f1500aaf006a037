import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { settleMs } from '../config/watched-file.js';
import type { LoginSource } from './authentication.js';
import { parseHtpasswd } from './htpasswd-file.js';
import { Htpasswd } from './htpasswd.js';

const log = { error: () => undefined, warn: () => undefined };
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
const from = (client: string): LoginSource => ({ client, signal: new AbortController().signal });
const source = from('192.0.2.1');

describe('htpasswd', () => {
  it('accepts the right password, again and again', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    expect(await htpasswd.login(basic('ann:right'), source)).toMatchObject({ user: 'ann' });
    expect(await htpasswd.login(basic('ann:right'), source)).toMatchObject({ user: 'ann' });
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
    await htpasswd.login(basic('ann:right'), source);
    for (let times = 0; times < 2; times += 1)
      expect(await htpasswd.login(header, source)).toBe(header === undefined ? undefined : 'refused');
    expect(htpasswd.challenge()).toMatchObject(challenge);
  });

  it('notices a changed file, also for passwords that were right or wrong before', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    await htpasswd.login(basic('ann:right'), source);
    await htpasswd.login(basic('ann:other'), source);
    await writeFile(path, `ann:${await hash('other', 4)}\nbob:${await hash('new', 4)}\n`);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * settleMs });
    onTestFinished(() => void vi.useRealTimers());
    expect(await htpasswd.login(basic('ann:right'), source)).toBe('refused');
    expect(await htpasswd.login(basic('ann:other'), source)).toMatchObject({ user: 'ann' });
    expect(await htpasswd.login(basic('bob:new'), source)).toMatchObject({ user: 'bob' });
  });

  it('delays an address with many wrong passwords, but not its remembered password or other addresses', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    await htpasswd.login(basic('ann:right'), source);
    const tries = Array.from({ length: 60 }, (_, index) => htpasswd.login(basic(`ann:${index}`), source));
    const outcomes = await Promise.allSettled(tries);
    const delayed = outcomes.filter(({ status }) => status === 'rejected');
    expect(delayed.length).toBeGreaterThan(10);
    expect(delayed[0]).toMatchObject({ reason: { name: 'LoginDelayed' } });
    expect(await htpasswd.login(basic('ann:right'), source)).toMatchObject({ user: 'ann' });
    expect(await htpasswd.login(basic('ann:0'), from('192.0.2.2'))).toBe('refused');
    expect(await htpasswd.login(basic('bob:x'), from('192.0.2.2'))).toBe('refused');
  });

  it('checks an address without wrong passwords before the queued guesses of many addresses', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    const guessers = Array.from({ length: 60 }, (_, index) => from(`198.51.100.${index}`));
    for (const guesser of guessers) await htpasswd.login(basic(`ann:guess of ${guesser.client}`), guesser);
    let checked = 0;
    const guesses = guessers.map(async (guesser) => {
      await htpasswd.login(basic(`ann:second guess of ${guesser.client}`), guesser);
      checked += 1;
    });
    expect(await htpasswd.login(basic('ann:right'), source)).toMatchObject({ user: 'ann' });
    expect(checked).toBeLessThan(30);
    await Promise.all(guesses);
  });

  it('does not delay an address for one wrong password that it repeats', async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    for (let times = 0; times < 60; times += 1)
      expect(await htpasswd.login(basic('ann:wrong'), source)).toBe('refused');
  });

  it("rejects with the signal's reason when the client disconnects", async () => {
    const htpasswd = new Htpasswd(path, 'x', log);
    const signal = AbortSignal.abort(new Error('left'));
    await expect(htpasswd.login(basic('ann:right'), { client: 'x', signal })).rejects.toThrow('left');
  });
});

describe('the htpasswd file', () => {
  const rest = 'a'.repeat(53);

  it('is read as registry does: bcrypt hashes count, other kinds never match', () => {
    const text = `a:{SHA}x\nb:$apr1$x$y\nc:plain\n\nd:$2y$05$${rest}\r\ne:$2a$17$${rest}\n`;
    const { hashes, unusable, substitute } = parseHtpasswd(text, 'file');
    expect([...hashes.keys()]).toEqual(['d', 'e']);
    expect(unusable).toEqual([1, 2, 3]);
    expect(substitute).toMatch(/^\$2b\$17\$/);
  });

  it.each([
    [`x:$2x$05$${rest}`, /version 2x/],
    [`x:$2a$03$${rest}`, /cost 03/],
    [`x:$2a$18$${rest}`, /cost 18/],
    [`x:$2a$31$${rest}`, /cost 31/],
    [`x:$2a$05$${rest.slice(1)}`, /incomplete/],
    ['nocolon', /no name/],
    [':x', /no name/],
  ])('names the line that cannot be used: %s', async (line, got) => {
    await writeFile(path, `# users\nann:$2y$05$${rest}\n${line}\n`);
    expect(() => new Htpasswd(path, 'x', log)).toThrow(
      expect.objectContaining({
        name: 'ConfigError',
        faults: [
          {
            key: 'auth.htpasswd.path, line 3',
            got: expect.stringMatching(got) as string,
            wanted: 'NAME:HASH by htpasswd -B',
          },
        ],
      }),
    );
  });
});
