import 'reflect-metadata';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { stringify } from 'yaml';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppModule } from '../../src/app.module.js';
import { loadConfig } from '../../src/config/load.js';
import { ImageWarmer, type WarmWatch } from '../../src/prewarm/image-warmer.js';
import { PrewarmJob } from '../../src/prewarm/prewarm-job.js';
import { Blobs } from '../../src/proxy/blobs.js';
import { Manifests } from '../../src/proxy/manifests.js';
import { Tags } from '../../src/proxy/tags.js';
import { Transfers } from '../../src/proxy/transfers.js';
import type { JobRun } from '../../src/scheduler/job.js';
import { createLogger } from '../../src/telemetry/log.js';
import { NestLogger } from '../../src/telemetry/nest-logger.js';
import { UpstreamDirectory } from '../../src/upstream/directory.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { PullLimit } from '../fakes/pull-limit.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, indexOf, randomLayer, type Image } from '../parts/image.js';
import { soundStore } from '../parts/mirror.js';

const log = createLogger({ level: 'error', formatter: 'json', fields: {} }, { write: () => undefined });
const image = (seed: string): Image =>
  imageOf({ layers: [randomLayer(50_000, seed), randomLayer(10_000, `${seed}2`)] });

describe('fetching images ahead', () => {
  let cleanup: AsyncDisposableStack;
  let root: string;
  const limit = new PullLimit(10, 21_600);
  let upstream: FakeUpstream;
  let warmer: ImageWarmer;
  const touched: string[] = [];

  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    limit.beginWindow();
    touched.length = 0;
    upstream = cleanup.use(await FakeUpstream.start({ pullLimit: limit }));
    const folder = cleanup.use(await temporaryFolder());
    root = join(folder.path, 'root');
    const path = join(folder.path, 'config.yml');
    const proxy = { remoteurl: upstream.url, host: 'example.com' };
    await writeFile(
      path,
      stringify({
        version: 0.1,
        storage: { filesystem: { rootdirectory: root } },
        http: { addr: ':0' },
        proxy,
      }),
    );
    const { config } = loadConfig({ path, env: {}, cwd: folder.path });
    const context = await NestFactory.createApplicationContext(AppModule.for(config, log), {
      logger: new NestLogger(log),
      abortOnError: false,
    });
    cleanup.defer(() => context.close());
    warmer = new ImageWarmer({
      directory: context.get(UpstreamDirectory),
      tags: context.get(Tags),
      manifests: context.get(Manifests),
      blobs: context.get(Blobs),
      transfers: context.get(Transfers),
      usage: {
        touch: (repository, digest) => touched.push(`${repository}@${digest}`),
        hold: () => () => undefined,
        stored: () => undefined,
      },
      log,
      askBudgetMs: 20,
    });
  });

  afterEach(() => cleanup.disposeAsync());

  const watching = (told: string[] = [], signal = new AbortController().signal): WarmWatch => ({
    signal,
    progress: ({ doing }) => told.push(doing),
    step: () => Promise.resolve(),
  });
  const warm = (name: string, platforms: string[] = [], watch = watching()) =>
    warmer.warm({ image: name, platforms }, watch);

  it('stores all of an image, verified, and notes its use', async () => {
    const item = image('all');
    upstream.addImage('team/app', 'v1', item);
    const blobs = [item.config, ...item.layers];
    await expect(warm('team/app:v1')).resolves.toEqual({
      digest: item.manifest.digest,
      manifests: 1,
      blobs: 3,
      bytes: blobs.reduce((sum, { size }) => sum + size, 0),
    });
    const stored = await soundStore(root);
    expect(stored.blobs).toHaveLength(4);
    expect(stored.links).toMatchObject({ 'team/app/_manifests/tags/v1/current/link': item.manifest.digest });
    expect(touched).toEqual([`team/app@${item.manifest.digest}`]);
    await expect(warm('team/app:v1')).resolves.toMatchObject({ blobs: 3, bytes: 0 });
  });

  it('fetches what is named by its digest', async () => {
    const item = image('digest');
    upstream.addImage('team/app', 'v1', item);
    await expect(warm(`team/app@${item.manifest.digest}`)).resolves.toMatchObject({ blobs: 3 });
    expect(upstream.asked({ method: 'HEAD' })).toEqual([]);
  });

  it('says which platforms there are where one is not', async () => {
    upstream.addImage('team/app', 'v1', indexOf([image('one')]));
    await expect(warm('team/app:v1', ['linux/s390x'])).rejects.toMatchObject({
      code: 'unknown',
      message: expect.stringContaining('linux/amd64') as string,
    });
  });

  it('waits while little is left of the pull limit, says so, and goes on in the next window', async () => {
    upstream.addImage('team/app', 'v1', image('first'));
    upstream.addImage('team/app', 'v2', image('second'));
    const answer = { status: 200, headers: {}, body: Buffer.alloc(0) };
    for (let used = 0; used < 8; used += 1) limit.apply('GET', {}, answer);
    // Nothing is known of a limit before the first answer.
    await warm('team/app:v1');
    const { granted } = limit;
    const told: string[] = [];
    const warming = warm('team/app:v2', [], watching(told));
    await expect.poll(() => told).toContain('waiting for example.com: 1 of 10 pulls left');
    await expect.poll(() => upstream.asked({ method: 'HEAD', path: /v2$/ }).length).toBeGreaterThan(1);
    expect(limit.granted).toBe(granted);
    limit.beginWindow();
    await expect(warming).resolves.toMatchObject({ blobs: 3 });
  });

  it('leaves when it is told to while it waits', async () => {
    upstream.addImage('team/app', 'v1', image('leaving'));
    upstream.fault({ path: /blobs/ }, { stallAt: 100 });
    const leaving = new AbortController();
    const warming = warm('team/app:v1', [], watching([], leaving.signal));
    await upstream.until(() => upstream.bytesSent({ path: /blobs/ }) > 0);
    leaving.abort(new Error('enough'));
    await expect(warming).rejects.toThrow('enough');
  });

  it('goes on with a list where another replica has left it, past what is not to be had', async () => {
    upstream.addImage('team/a', 'latest', image('a'));
    upstream.addImage('team/c', 'latest', image('c'));
    const failed: string[] = [];
    const job = new PrewarmJob({
      warmer,
      images: ['team/a', 'team/b', 'team/c'].map((name) => ({ image: name, platforms: [] })),
      log,
    });
    const steps: (string | undefined)[] = [];
    const run: JobRun = {
      ...watching(),
      problem: ({ subject }) => void failed.push(subject),
      checkpoint: '1',
      dryRun: false,
      step: (checkpoint) => Promise.resolve(void steps.push(checkpoint)),
      mayDelete: () => Promise.resolve(false),
      removed: () => undefined,
    };
    await expect(job.run(run)).resolves.toMatchObject({ images: 1, failed: 1, blobs: 3 });
    expect(failed).toEqual(['team/b']);
    expect(upstream.asked({ path: /team\/a/ })).toEqual([]);
    expect(steps.at(-1)).toBe('3');
    expect(new Set(steps)).toEqual(new Set(['2', '3']));
  });
});
