import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { settleMs, WatchedFile } from './watched-file.js';

const later = 10 * settleMs;

class BadText extends Error {}

function parse(text: string): string {
  if (text.startsWith('bad')) throw new BadText('bad text');
  return `parsed ${text}`;
}

describe.each(['read', 'readSync'] as const)('a file that changes (%s)', (how) => {
  let folder: string;
  let path: string;
  let file: WatchedFile<string>;
  let time: number;
  let told: unknown[];
  const read = async (): Promise<string> => file[how]();
  /** Twice, with a time between that is long enough. */
  const readSettled = async (): Promise<string> => {
    await read();
    time += settleMs;
    return read();
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'watched-'));
    path = join(folder, 'file');
    time = 1;
    told = [];
    const log = { error: ({ err }: { err?: unknown }) => told.push(err) };
    file = new WatchedFile(path, parse, log, () => time);
    await writeFile(path, 'one');
    await read();
  });
  afterEach(async () => {
    vi.useRealTimers();
    await rm(folder, { recursive: true });
  });

  it('is taken when it has stayed the same for a while', async () => {
    await writeFile(path, 'two');
    expect(await read()).toBe('parsed one');
    time += settleMs - 1;
    expect(await read()).toBe('parsed one');
    time += 1;
    expect(await read()).toBe('parsed two');
    expect(told).toEqual([]);
  });

  it('is not taken while it is written in place, however long that takes', async () => {
    for (const text of ['', 'tw', 'two', 'two thr', 'two three']) {
      await writeFile(path, text);
      expect(await read()).toBe('parsed one');
      time += settleMs - 1;
      expect(await read()).toBe('parsed one');
    }
    time += 1;
    expect(await read()).toBe('parsed two three');
  });

  it('is taken at the first look where the change is old by the times of the file', async () => {
    await writeFile(path, 'two');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + settleMs + 1 });
    expect(await read()).toBe('parsed two');
  });

  it('is taken at once where another has its place, or another link as Kubernetes does it', async () => {
    await writeFile(`${path}.new`, 'two');
    await rename(`${path}.new`, path);
    expect(await read()).toBe('parsed two');
    for (const version of ['a', 'b']) {
      await mkdir(join(folder, version));
      await writeFile(join(folder, version, 'file'), version);
    }
    const data = join(folder, '..data');
    await symlink('a', data);
    await rm(path);
    await symlink('..data/file', path);
    expect(await read()).toBe('parsed a');
    await symlink('b', `${data}_tmp`);
    await rename(`${data}_tmp`, data);
    expect(await read()).toBe('parsed b');
    expect(told).toEqual([]);
  });

  it('is not taken where another has its place that is still empty', async () => {
    await writeFile(`${path}.new`, '');
    await rename(`${path}.new`, path);
    expect(await read()).toBe('parsed one');
    await writeFile(path, 'two');
    expect(await read()).toBe('parsed two');
  });

  it('that cannot be parsed any more is told once, and what it had stays until it can', async () => {
    await writeFile(path, 'bad');
    for (let looks = 0; looks < 3; looks += 1) {
      expect(await read()).toBe('parsed one');
      time += later;
    }
    expect(told).toEqual([expect.any(BadText)]);
    await writeFile(path, 'two');
    expect(await readSettled()).toBe('parsed two');
    expect(told).toHaveLength(1);
  });

  it('that is gone is told once, and what it had stays until it is back', async () => {
    await rm(path);
    for (let looks = 0; looks < 3; looks += 1) {
      expect(await read()).toBe('parsed one');
      time += later;
    }
    expect(told).toEqual([expect.objectContaining({ code: 'ENOENT' })]);
    await writeFile(path, 'two');
    expect(await readSettled()).toBe('parsed two');
  });

  it('has to be there the first time, and to be right', async () => {
    const log = { error: (facts: unknown) => told.push(facts) };
    const reading = async (name: string) => new WatchedFile(join(folder, name), parse, log)[how]();
    await expect(reading('none')).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(join(folder, 'bad'), 'bad');
    await expect(reading('bad')).rejects.toBeInstanceOf(BadText);
    expect(told).toEqual([]);
  });

  it('is parsed once for each of its versions', async () => {
    const counted = vi.fn<(text: string) => string>(parse);
    const once = new WatchedFile(path, counted, { error: () => undefined }, () => time);
    for (let looks = 0; looks < 3; looks += 1) await once[how]();
    expect(counted).toHaveBeenCalledTimes(1);
  });
});
