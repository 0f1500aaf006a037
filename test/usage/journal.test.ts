import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { FilesystemRecordStore } from '../../src/storage/filesystem/record-store.js';
import { WorkFolder } from '../../src/storage/filesystem/work-folder.js';
import { StoredUsage } from '../../src/usage/stored-usage.js';
import { UsageLog } from '../../src/usage/usage-log.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, filesUnder, startMirror, untilIdle } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';

const often = { interval: 50 };

async function journalsIn(root: string): Promise<string[]> {
  const folder = join(root, 'cistern', 'usage', 'journal');
  return Promise.all((await filesUnder(folder)).map((file) => readFile(join(folder, file), 'utf8')));
}

/** What the lines of all journals name, with the latest second. */
async function usesIn(root: string): Promise<Map<string, number>> {
  const uses = new Map<string, number>();
  for (const line of (await journalsIn(root)).flatMap((text) => text.split('\n'))) {
    const [at, what] = line.split(' ');
    if (what?.includes('@') === true) uses.set(what, Math.max(Number(at), uses.get(what) ?? 0));
  }
  return uses;
}

describe('uses', () => {
  it('of manifests and blobs are in the storage soon after, and stay there when the process is killed', async () => {
    await using mirror = await startMirror();
    const { upstream, cistern, url } = mirror;
    const image = imageOf({ layers: [randomLayer(50_000, 'used')] });
    const [layer] = image.layers;
    upstream.addImage('team/app', 'v1', image);
    const began = Math.floor(Date.now() / 1000);
    await (await fetch(url('team/app/manifests/v1'))).arrayBuffer();
    await fetch(url(`team/app/blobs/${image.config.digest}`), { method: 'HEAD' });
    await (await fetch(url(`team/app/blobs/${layer?.digest}`))).arrayBuffer();
    await fetch(url('team/app/manifests/none'));
    const used = [image.manifest.digest, image.config.digest, layer?.digest];
    const wanted = used.map((digest) => `team/app@${digest}`).toSorted();
    await expect.poll(async () => [...(await usesIn(cistern.root)).keys()].sort(), often).toEqual(wanted);
    for (const at of (await usesIn(cistern.root)).values()) {
      expect(at).toBeGreaterThanOrEqual(began);
      expect(at).toBeLessThanOrEqual(Date.now() / 1000);
    }
    cistern.kill('SIGKILL');
    await cistern.exited;
    expect([...(await usesIn(cistern.root)).keys()].sort()).toEqual(wanted);
  });

  it('are written when the mirror is stopped, with what it stored', async () => {
    await using folder = await temporaryFolder();
    await using mirror = await startMirror({ root: folder.path });
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(100_000, 'stopped');
    upstream.addBlob('team/app', blob);
    await (await fetch(url(`team/app/blobs/${blob.digest}`))).arrayBuffer();
    await untilIdle(cistern);
    await cistern.stop();
    expect([...(await usesIn(folder.path)).keys()]).toEqual([`team/app@${blob.digest}`]);
    await using work = new WorkFolder(join(folder.path, 'work'));
    const records = new FilesystemRecordStore(folder.path, work);
    const log = pino({ level: 'silent' });
    const usage = new StoredUsage(records, new UsageLog(records, log, 900_000), log);
    expect(await usage.storedSince(0, patience())).toBe(100_000);
  });

  it('are not written by a mirror without upstream', async () => {
    await using folder = await temporaryFolder();
    const blob = blobOf(1_000, 'kept');
    {
      await using mirror = await startMirror({ root: folder.path });
      mirror.upstream.addBlob('team/app', blob);
      await (await fetch(mirror.url(`team/app/blobs/${blob.digest}`))).arrayBuffer();
      await untilIdle(mirror.cistern);
      await mirror.cistern.stop();
    }
    const before = await journalsIn(folder.path);
    expect(before).toHaveLength(1);
    await using offline = await startMirror({ root: folder.path, proxy: { remoteurl: undefined } });
    expect((await fetch(offline.url(`team/app/blobs/${blob.digest}`))).status).toBe(200);
    await offline.cistern.stop();
    expect(await journalsIn(folder.path)).toEqual(before);
  });
});
