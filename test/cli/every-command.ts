import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { runCistern } from '../parts/cistern.js';
import { imageOf, indexOf, randomLayer, type ImageIndex } from '../parts/image.js';
import { filesUnder, startMirror, type Mirror } from '../parts/mirror.js';
import { cisternInTerminal } from '../parts/terminal.js';

/** Tests keep the clock: jobs run when they say so. */
const config = { storage: { delete: { enabled: true } }, scheduler: { enabled: false, grace: '1s' } };
const seed = (text: string): ImageIndex =>
  indexOf([
    imageOf({ layers: [randomLayer(20_000, `${text}-amd64`)] }),
    imageOf({
      layers: [randomLayer(20_000, `${text}-arm64`)],
      platform: { os: 'linux', architecture: 'arm64' },
    }),
  ]);

interface Ran {
  readonly code: number;
  /** Where results are; in a terminal all that was shown, without what was drawn over. */
  readonly results: string;
}

export type Run = (mirror: Mirror, ...args: string[]) => Promise<Ran>;

export const inPipe: Run = async ({ cistern }, ...args) => {
  const { code, stdout } = await runCistern([...args, '--config', cistern.configFile]);
  expect(stdout).not.toContain('\u001B');
  return { code, results: stdout };
};

export const inTerminal: Run = async ({ cistern }, ...args) => {
  const session = cisternInTerminal([...args, '--config', cistern.configFile]);
  const code = await session.ended;
  // eslint-disable-next-line no-control-regex
  const results = session.shown().replaceAll(/\r\u001B\[K[^\r\n]*(?=\r\u001B\[K)/g, '');
  return { code, results: results.replaceAll('\r\u001B[K', '').replaceAll('\r\n', '\n') };
};

/** What every command does, however it is run and whatever does the work. */
export function commands(
  run: Run,
  how: 'debug port' | 'socket',
  prepare: (mirror: Mirror) => Promise<unknown>,
): void {
  let mirror: Mirror;
  const [first, second] = [seed('first'), seed('second')];
  const amd64 = first.images[0];
  const layer = amd64?.layers[0];

  beforeAll(async () => {
    mirror = await startMirror({
      config: { ...config, ...(how === 'socket' ? { http: { debug: undefined } } : {}) },
      proxy: { host: 'example.com' },
    });
    mirror.upstream.addImage('team/first', 'v1', first);
    mirror.upstream.addImage('team/second', 'latest', second);
    await prepare(mirror);
  });

  afterAll(() => mirror[Symbol.asyncDispose]());

  it('prewarm fetches an image for the platform that was asked for', async () => {
    const { code } = await run(mirror, 'prewarm', 'team/first:v1', '--platform', 'linux/amd64');
    expect(code).toBe(0);
    const blobs = await filesUnder(join(mirror.cistern.root, 'docker/registry/v2/blobs'));
    expect(blobs).toHaveLength(4); // the index, its manifest, config and layer
    expect(mirror.upstream.asked({ method: 'GET', path: /blobs/ })).toHaveLength(2);
  });

  it('prewarm fetches all platforms otherwise, and what is there is not fetched again', async () => {
    const before = mirror.upstream.asked({ method: 'GET' }).length;
    expect((await run(mirror, 'prewarm', 'team/first:v1', 'example.com/team/second')).code).toBe(0);
    const asked = mirror.upstream.asked({ method: 'GET' }).slice(before);
    expect(asked.filter(({ path }) => path.includes('team/first'))).toHaveLength(3);
    expect(asked.filter(({ path }) => path.includes('team/second'))).toHaveLength(7);
  });

  it('prewarm says what it could not have, and fetches the rest', async () => {
    const { code } = await run(mirror, 'prewarm', 'team/nonsense', 'team/first:v1');
    expect(code).toBe(1);
    expect((await run(mirror, 'prewarm', 'team/first:v1', '--platform', 'linux/riscv64')).code).toBe(1);
    expect((await run(mirror, 'prewarm', 'Nonsense')).code).toBe(2);
  });

  it('ls lists images with their size and last use', async () => {
    const { code, results } = await run(mirror, 'ls');
    expect(code).toBe(0);
    expect(results).toMatch(/SIZE +LAST USED +DIGEST +IMAGE/);
    expect(results).toMatch(/4\d\.\d kB +\d{4}-\d\d-\d\d \d\d:\d\d +sha256:\w{12} +team\/first:v1\n/);
    expect(results).toContain('team/second:latest\n');
  });

  it('ls --json lists them for programs', async () => {
    const { code, results } = await run(mirror, 'ls', '--json');
    expect(code).toBe(0);
    const images = JSON.parse(results.slice(results.indexOf('['))) as unknown;
    expect(images).toMatchObject([
      { repository: 'team/first', tag: 'v1', digest: first.manifest.digest },
      { repository: 'team/second', tag: 'latest', digest: second.manifest.digest },
    ]);
  });

  it('jobs shows all jobs and what was done by hand', async () => {
    const { code, results } = await run(mirror, 'jobs');
    expect(code).toBe(0);
    expect(results).toMatch(/^prewarm +done/m);
    expect(results).toMatch(/^scrub +never run/m);
  });

  it('refresh finds where a tag has moved, however fresh it is', async () => {
    expect((await run(mirror, 'refresh', 'team/first:v1')).results).toContain(
      'team/first:v1 is still sha256:',
    );
    mirror.upstream.addImage('team/first', 'v1', second);
    const { code, results } = await run(mirror, 'refresh', 'team/first:v1');
    expect({ code, results }).toMatchObject({
      code: 0,
      results: expect.stringContaining(`is now ${second.manifest.digest}`) as string,
    });
    mirror.upstream.addImage('team/first', 'v1', first);
    expect((await run(mirror, 'refresh', 'team/first:v1')).code).toBe(0);
    expect((await run(mirror, 'refresh', 'team/nonsense')).code).toBe(1);
  });

  it('verify finds what has rotted, drops it, and ends with 3', async () => {
    expect((await run(mirror, 'verify')).code).toBe(0);
    const path = join(mirror.cistern.root, blobPath(layer?.digest ?? first.manifest.digest));
    await writeFile(path, 'rotten');
    expect((await run(mirror, 'verify', 'team/second')).code).toBe(0);
    const line = `remove blob ${layer?.digest} (6 B, rotten)\n`;
    await expect(run(mirror, 'verify', '--dry-run', 'team/first:v1')).resolves.toMatchObject({
      code: 3,
      results: expect.stringContaining(`would ${line}`) as string,
    });
    await expect(run(mirror, 'verify', 'team/first:v1')).resolves.toMatchObject({
      code: 3,
      results: expect.stringContaining(line) as string,
    });
    await expect(run(mirror, 'verify')).resolves.toMatchObject({ code: 0 });
    expect((await run(mirror, 'verify', 'team/nonsense')).code).toBe(1);
  });

  it('gc removes exactly what its dry run says', async () => {
    // The tag has moved back and forth: nothing leads to what it led to, but another repository.
    await run(mirror, 'purge', 'team/second');
    const collected = async (...args: string[]): Promise<string[]> => {
      const { code, results } = await run(mirror, 'gc', '--delete-untagged', ...args);
      expect(code).toBe(0);
      return results.split('\n').filter((line) => /^(?:would )?remove /.test(line));
    };
    await expect.poll(() => collected('--dry-run'), { interval: 500 }).not.toEqual([]);
    const said = await collected('--dry-run');
    const done = await collected();
    expect(said.toSorted()).toEqual(done.map((line) => `would ${line}`).toSorted());
    expect(done.length).toBeGreaterThan(0);
  });

  it('purge forgets an image, or all of a repository', async () => {
    const { code, results } = await run(mirror, 'purge', 'team/first:v1');
    expect(code).toBe(0);
    expect(results).toContain('remove tag team/first:v1 (purged)\n');
    expect((await run(mirror, 'ls')).results).not.toContain('team/first:v1');
    expect((await run(mirror, 'purge', 'team/first:v1')).code).toBe(1);
    expect((await run(mirror, 'purge', '--all', 'team/first')).code).toBe(0);
  });

  it('token prints what the admin API wants', async () => {
    const { code, results } = await run(mirror, 'token');
    expect(code).toBe(0);
    expect(results.trim()).toMatch(/^[\w-]{43}$/);
  });
}
