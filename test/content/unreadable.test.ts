import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { layersFolder, blobPath } from '../../src/storage/layout.js';
import { parseRepository } from '../../src/oci/name.js';
import type { Digest } from '../../src/oci/digest.js';
import { temporaryFolder } from '../parts/folder.js';
import { patienceMs } from '../parts/patience.js';
import { contentsOf, imageOf, linuxAmd64, randomLayer, type Image } from '../parts/image.js';
import type { Cistern } from '../parts/cistern.js';
import { filesUnder, metric, startMirror, untilIdle, type Mirror } from '../parts/mirror.js';

const hasty = {
  storage: { delete: { enabled: true } },
  scheduler: { grace: '1s', expire: { schedule: '1s' } },
};

/** Nobody can follow it, whatever their rights: every access fails with ELOOP. */
async function makeUnreadable(path: string): Promise<void> {
  await rm(path, { recursive: true });
  await symlink(path, path);
}

function image(seed: string): Image {
  return imageOf({ platform: linuxAmd64, layers: [randomLayer(10_000, seed)] });
}

async function pull({ upstream, cistern }: Mirror, name: string, wanted: Image): Promise<void> {
  upstream.addImage(name, 'v1', wanted);
  const accept = { headers: { accept: wanted.manifest.mediaType } };
  expect((await fetch(`${cistern.url}/v2/${name}/manifests/v1`, accept)).status).toBe(200);
  for (const { digest } of contentsOf(wanted).blobs) {
    expect((await fetch(`${cistern.url}/v2/${name}/blobs/${digest}`)).status).toBe(200);
  }
  await untilIdle(cistern);
}

async function blobsIn(root: string): Promise<string[]> {
  const files = await filesUnder(join(root, 'docker/registry/v2/blobs'));
  return files.filter((path) => path.endsWith('/data')).map((path) => path.split('/').at(-2) ?? '');
}

function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** The subjects of the problems that the last run of a job skipped, in one string. */
async function problemsOf(cistern: Cistern, job: string): Promise<string> {
  const { jobs } = (await (await fetch(`${cistern.debugUrl}/debug/status`)).json()) as {
    jobs: { name: string; problems?: { first: { subject: string }[] } }[];
  };
  const problems = jobs.find(({ name }) => name === job)?.problems?.first ?? [];
  return problems.map(({ subject }) => subject).join();
}

describe('jobs over a folder of which a part cannot be read', () => {
  it('go on past a manifest, keep its layers, delete the rest, and report it', async () => {
    await using folder = await temporaryFolder();
    const [kept, other] = [image('kept'), image('other')];
    {
      await using first = await startMirror({ root: folder.path });
      await pull(first, 'team/kept', kept);
      await pull(first, 'team/other', other);
    }
    await makeUnreadable(join(folder.path, blobPath(kept.manifest.digest as Digest)));
    // No look of this process has read the manifest before.
    await using mirror = await startMirror({ root: folder.path, config: hasty, proxy: { ttl: '5s' } });
    const { cistern } = mirror;
    const stays = contentsOf(kept)
      .blobs.map(({ digest }) => hexOf(digest))
      .toSorted();
    await expect
      .poll(
        async () =>
          (await blobsIn(folder.path)).filter((hex) => hex !== hexOf(kept.manifest.digest)).toSorted(),
        {
          timeout: patienceMs,
        },
      )
      .toEqual(stays);
    await expect
      .poll(async () => metric(cistern, 'cistern_job_problems', { name: 'expire' }), { timeout: patienceMs })
      .toBeGreaterThan(0);
    // The next run, which has not met the problem yet, may have begun.
    await expect
      .poll(async () => problemsOf(cistern, 'expire'), { timeout: patienceMs })
      .toContain(hexOf(kept.manifest.digest));
    expect((await blobsIn(folder.path)).toSorted()).toEqual(expect.arrayContaining(stays));
  });

  it('delete no content while a folder of links cannot be listed', async () => {
    await using folder = await temporaryFolder();
    await using mirror = await startMirror({ root: folder.path, config: hasty, proxy: { ttl: '5s' } });
    const { cistern } = mirror;
    const [kept, other] = [image('kept'), image('other')];
    await pull(mirror, 'team/kept', kept);
    await pull(mirror, 'team/other', other);
    const before = (await blobsIn(folder.path)).length;
    const stored = parseRepository('team/kept');
    if (stored === undefined) throw new Error('unreachable');
    await makeUnreadable(join(folder.path, layersFolder(stored), 'sha256'));
    const links = async (): Promise<string[]> =>
      (await filesUnder(join(folder.path, 'docker/registry/v2/repositories/team/other'))).filter((path) =>
        path.endsWith('link'),
      );
    await expect.poll(links, { timeout: patienceMs }).toEqual([]);
    await expect
      .poll(async () => metric(cistern, 'cistern_job_problems', { name: 'expire' }), { timeout: patienceMs })
      .toBeGreaterThan(0);
    expect(await blobsIn(folder.path)).toHaveLength(before);
  });
});
