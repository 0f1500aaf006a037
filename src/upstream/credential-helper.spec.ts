import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { CredentialHelper, withoutKeys, type HelperOptions } from './credential-helper.js';

let folder: string;
let clock: number;
let told: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'helper-'));
  clock = 0;
  told = [];
  const path = folder;
  return () => rm(path, { recursive: true });
});

/** A program; each run of it leaves a line in `runs`. */
async function program(script: string): Promise<string> {
  const path = join(folder, 'docker-credential-test');
  await writeFile(path, `#!/bin/sh\ncd ${folder}\necho "$1 $(cat)" >> runs\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

function helperOf(command: string, more: Partial<HelperOptions> = {}): CredentialHelper {
  const tell = (facts: object, message: string): void => {
    told.push(`${message} ${String((facts as { err?: Error }).err?.message ?? '')}`.trim());
  };
  return new CredentialHelper({
    command,
    lifetimeMs: undefined,
    server: 'registry.test',
    env: { PATH: process.env['PATH'] },
    host: 'registry.test',
    log: { info: tell, warn: tell, error: tell },
    now: () => clock,
    ...more,
  });
}

async function runs(): Promise<string[]> {
  const text = await readFile(join(folder, 'runs'), 'utf8').catch(() => '');
  return text.split('\n').filter((line) => line !== '');
}

async function isRunning(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
  return !state.includes(') Z');
}

const counting = `echo '{"ServerURL":"x","Username":"AWS","Secret":"s'$(wc -l < runs | tr -d ' ')'"}'`;
const answer = (count: number) => ({ username: 'AWS', password: `s${count}` });

describe('a credential helper', () => {
  it('is asked for the server, once for many requests', async () => {
    const helper = helperOf(await program(counting));
    expect(await Promise.all([helper.login(), helper.login(), helper.login()])).toEqual(
      Array.from({ length: 3 }, () => answer(1)),
    );
    clock = 1e12;
    expect(await helper.login()).toEqual(answer(1));
    expect(await runs()).toEqual(['get registry.test']);
  });

  it('is asked for each request where its answer has no lifetime', async () => {
    const helper = helperOf(await program(counting), { lifetimeMs: 0 });
    expect([await helper.login(), await helper.login()]).toEqual([answer(1), answer(2)]);
  });

  it('is asked before the answer ends, while the answer is used', async () => {
    const helper = helperOf(await program(counting), { lifetimeMs: 100_000 });
    await helper.login();
    clock = 74_999;
    expect(await helper.login()).toEqual(answer(1));
    expect(await runs()).toHaveLength(1);
    clock = 75_000;
    expect(await helper.login()).toEqual(answer(1));
    await expect.poll(() => helper.login()).toEqual(answer(2));
    clock = 175_000;
    expect(await helper.login()).toEqual(answer(3));
  });

  it('that fails before the answer ends costs nobody anything until then', async () => {
    const command = await program(counting);
    const helper = helperOf(command, { lifetimeMs: 100_000 });
    await helper.login();
    await program('echo no >&2; exit 1');
    clock = 80_000;
    expect(await helper.login()).toEqual(answer(1));
    await expect.poll(() => told).toHaveLength(1);
    clock = 99_999;
    expect(await helper.login()).toEqual(answer(1));
    await expect.poll(runs).toHaveLength(3);
    clock = 100_000;
    await expect(helper.login()).rejects.toMatchObject({ code: 'helper-failed' });
  });

  it('is asked again when the upstream refuses the answer, and not at once again', async () => {
    const helper = helperOf(await program(counting));
    await helper.login();
    helper.refused();
    expect(await helper.login()).toEqual(answer(1));
    clock = 5_000;
    helper.refused();
    expect(await helper.login()).toEqual(answer(2));
  });

  it('that cannot be run is told once, left alone for a while, and used again when it can', async () => {
    const helper = helperOf(join(folder, 'docker-credential-test'));
    for (const at of [0, 4_999, 5_000]) {
      clock = at;
      await expect(helper.login()).rejects.toMatchObject({
        code: 'helper-failed',
        message: 'cannot be run (ENOENT)',
      });
    }
    await program(counting);
    await expect(helper.login()).rejects.toMatchObject({ code: 'helper-failed' });
    clock = 10_000;
    expect(await helper.login()).toEqual(answer(1));
    expect(told).toEqual([
      'the credential helper gives no credentials cannot be run (ENOENT)',
      'the credential helper answers again',
    ]);
  });

  it('that never answers is ended in time, with all that it started', async () => {
    const script = `sleep 600 & echo $! > pid; wait`;
    const helper = helperOf(await program(script), { timeoutMs: 300 });
    await expect(helper.login()).rejects.toMatchObject({ code: 'helper-silent' });
    const pid = Number(await readFile(join(folder, 'pid'), 'utf8'));
    await expect.poll(() => isRunning(pid)).toBe(false);
  });

  it('that runs as another user and never answers gives nothing', async () => {
    const kill = vi.spyOn(process, 'kill').mockImplementation(() => {
      throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
    });
    onTestFinished(() => kill.mockRestore());
    const helper = helperOf(await program('mkfifo fifo; read line < fifo'), { timeoutMs: 300 });
    await expect(helper.login()).rejects.toMatchObject({ code: 'helper-silent' });
    expect(kill).toHaveBeenCalledOnce();
    await writeFile(join(folder, 'fifo'), '\n'); // ends the program
  });

  it.each([
    ['echo nothing', 'helper-answer'],
    ['echo \'{"Username":"u"}\'', 'helper-answer'],
    ['echo \'{"Username":"","Secret":"x"}\'', 'helper-answer'],
    ['echo \'{"Username":"<token>","Secret":"x"}\'', 'helper-answer'],
    ['head -c 1000000 /dev/zero', 'helper-answer'],
    ['head -c 1000000 /dev/zero >&2; exit 3', 'helper-failed'],
    ['kill -9 $$', 'helper-failed'],
  ])('that does `%s` gives nothing', async (script, code) => {
    await expect(helperOf(await program(script)).login()).rejects.toMatchObject({ code });
  });

  it('tells why it failed, without what looks like a secret', async () => {
    const key = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
    const command = await program(
      `echo "credentials not found for $AWS_SECRET" ; echo "key ${key}" >&2; exit 1`,
    );
    const helper = helperOf(command, { env: { PATH: process.env['PATH'], AWS_SECRET: 'squeamish' } });
    await expect(helper.login()).rejects.toThrow(
      /^ended with 1: key \(hidden\); credentials not found for \(hidden\)$/,
    );
  });
});

it('words and names are left in what a program says', () => {
  const said =
    'no basic auth for 123456789012.dkr.ecr.eu-west-1.amazonaws.com in /home/dev/.docker/config.json';
  expect(withoutKeys(said, { HOME: '/home/dev' })).toBe(said);
});
