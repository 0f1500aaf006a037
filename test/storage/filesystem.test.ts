import { randomBytes } from 'node:crypto';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type Digest } from '../../src/oci/digest.js';
import { FilesystemBlobStore } from '../../src/storage/filesystem/blob-store.js';
import { FilesystemDeletes } from '../../src/storage/filesystem/deletes.js';
import { moveIntoPlace, removeAndPrune } from '../../src/storage/filesystem/files.js';
import { FilesystemInventory } from '../../src/storage/filesystem/inventory.js';
import { FilesystemRecordStore } from '../../src/storage/filesystem/record-store.js';
import { FilesystemLinks } from '../../src/storage/filesystem/links.js';
import { LinkedRepositories } from '../../src/storage/linked-repositories.js';
import { WorkFolder } from '../../src/storage/filesystem/work-folder.js';
import { establishIdentity, IdentityConflict } from '../../src/storage/identity.js';
import { blobPath, tagCurrentPath } from '../../src/storage/layout.js';
import { StorageError, type RecordStore } from '../../src/storage/storage.js';
import { blobStoreContract, verifiedFile } from '../contracts/blob-store.js';
import { deletesContract, inventoryContract, type StorageUnderTest } from '../contracts/inventory.js';
import { recordStoreContract } from '../contracts/record-store.js';
import { repository, repositoryStoreContract, tag } from '../contracts/repository-store.js';
import { MemoryRecords } from '../fakes/memory-records.js';

const unobserved = (): void => undefined;
let root: string;
let folders: WorkFolder[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cistern-storage-'));
  folders = [];
});

afterEach(async () => {
  await Promise.all(folders.map((folder) => folder[Symbol.asyncDispose]()));
  await rm(root, { recursive: true, force: true });
});

function workFolder(parent = join(root, 'cistern/spool'), beatMs?: number): WorkFolder {
  const folder = new WorkFolder(parent, beatMs);
  folders.push(folder);
  return folder;
}

async function visibleBlobs(): Promise<string[]> {
  const blobs = join(root, 'docker/registry/v2/blobs');
  if (!existsSync(blobs)) return [];
  const files = await readdir(blobs, { recursive: true, withFileTypes: true });
  return files
    .filter((file) => file.isFile())
    .map((file) => {
      expect(file.name).toBe('data');
      const [algorithm, pair, hex] = file.parentPath.split('/').slice(-3);
      expect(hex?.slice(0, 2)).toBe(pair);
      return `${algorithm}:${hex}`;
    });
}

describe('blobs in a folder', () => {
  blobStoreContract(async () => {
    const work = workFolder();
    return {
      store: new FilesystemBlobStore(root, work, unobserved),
      other: new FilesystemBlobStore(root, workFolder(), unobserved),
      newSpool: () => work.newFile('spool'),
      visible: visibleBlobs,
    };
  });

  it('takes a spool from another file system', async ({ skip }) => {
    const shm = '/dev/shm';
    if (!existsSync(shm)) skip('no second file system at /dev/shm');
    const elsewhere = await mkdtemp(join(shm, 'cistern-spool-'));
    try {
      const store = new FilesystemBlobStore(root, workFolder(), unobserved);
      const bytes = Buffer.alloc(200_000, 7);
      const file = await verifiedFile(join(elsewhere, 'spool'), bytes, digestOf(bytes));
      await store.take(file);
      expect((await store.read(file.digest, 200_000))?.equals(bytes)).toBe(true);
      expect(await readdir(elsewhere)).toEqual([]);
    } finally {
      await rm(elsewhere, { recursive: true });
    }
  });

  it('replaces a blob whose file is too short', async () => {
    const store = new FilesystemBlobStore(root, workFolder(), unobserved);
    const bytes = Buffer.from('0123456789');
    const path = join(
      root,
      'docker/registry/v2/blobs/sha256',
      digestOf(bytes).slice(7, 9),
      digestOf(bytes).slice(7),
      'data',
    );
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, '01234');
    await store.take(await verifiedFile(join(root, 'spool'), bytes, digestOf(bytes)));
    expect(await readFile(path, 'utf8')).toBe('0123456789');
  });

  it('has trouble, not absence, where a blob’s place is something else', async () => {
    const store = new FilesystemBlobStore(root, workFolder(), unobserved);
    const digest = digestOf(Buffer.from('folder'));
    await mkdir(join(root, `docker/registry/v2/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}/data`), {
      recursive: true,
    });
    expect(await store.stat(digest)).toBeUndefined();
    await expect(store.read(digest, 10)).rejects.toBeInstanceOf(StorageError);
  });
});

describe('repositories in a folder', () => {
  const repositories = (records: RecordStore = new MemoryRecords()): LinkedRepositories =>
    new LinkedRepositories(new FilesystemLinks(root, workFolder(), unobserved), records);

  repositoryStoreContract(() => {
    const records = new FilesystemRecordStore(root, workFolder());
    return { repositories: repositories(records), records };
  });

  it('lie where registry looks for them', async () => {
    const store = repositories();
    const digest = digestOf(Buffer.from('x'));
    await store.linkLayer(repository('a/b'), digest);
    await store.linkManifest(repository('a/b'), digest);
    await store.writeTag(repository('a/b'), tag('v1'), digest);
    const base = join(root, 'docker/registry/v2/repositories/a/b');
    const hex = digest.slice(7);
    for (const path of [
      `_layers/sha256/${hex}/link`,
      `_manifests/revisions/sha256/${hex}/link`,
      `_manifests/tags/v1/index/sha256/${hex}/link`,
      '_manifests/tags/v1/current/link',
    ]) {
      expect(await readFile(join(base, path), 'utf8')).toBe(digest);
    }
  });

  it('open few files at once to list many tags', async () => {
    const store = repositories();
    const digest = digestOf(Buffer.from('x'));
    await store.writeTag(repository('a'), tag('v0'), digest);
    const first = join(root, tagCurrentPath(repository('a'), tag('v0')));
    for (let n = 1; n < 2_000; n += 1) {
      const path = join(root, tagCurrentPath(repository('a'), tag(`v${n}`)));
      mkdirSync(dirname(path), { recursive: true });
      linkSync(first, path);
    }
    const open = (): number => readdirSync('/proc/self/fd').length;
    const before = open();
    let most = 0;
    const sampled = setInterval(() => (most = Math.max(most, open())), 0);
    try {
      expect(await store.listTags(repository('a'))).toHaveLength(2_000);
    } finally {
      clearInterval(sampled);
    }
    expect(most - before).toBeLessThan(100);
  });

  it('treats a damaged link as none', async () => {
    const store = repositories();
    const folder = join(root, 'docker/registry/v2/repositories/a/_manifests/tags/v1/current');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'link'), 'sha256:12');
    expect(await store.readTag(repository('a'), tag('v1'))).toBeUndefined();
    expect(await store.listTags(repository('a'))).toEqual([]);
  });
});

function storage(): StorageUnderTest {
  const work = workFolder();
  const links = new FilesystemLinks(root, work, unobserved);
  const top = 'docker/registry/v2';
  return {
    blobs: new FilesystemBlobStore(root, work, unobserved),
    repositories: new LinkedRepositories(links, new MemoryRecords()),
    inventory: new FilesystemInventory(root, work, links, unobserved),
    deletes: new FilesystemDeletes(root, unobserved),
    plant: async (path, bytes) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), bytes);
    },
    remains: async () => {
      if (!existsSync(join(root, top))) return [];
      const entries = await readdir(join(root, top), { recursive: true });
      const inner = entries.filter((entry) => !entries.some((other) => other.startsWith(`${entry}/`)));
      return inner
        .filter((entry) => entry !== 'blobs' && entry !== 'repositories')
        .map((entry) => `${top}/${entry}`)
        .sort();
    },
  };
}

describe('the inventory of a folder', () => {
  inventoryContract(() => Promise.resolve(storage()));
});

describe('deleting in a folder', () => {
  deletesContract(() => Promise.resolve(storage()));

  it('takes nothing from whoever is reading', async () => {
    const { blobs, deletes } = storage();
    const bytes = randomBytes(1_000_000);
    await blobs.put(digestOf(bytes), bytes);
    const blob = await blobs.open(digestOf(bytes));
    const read: Buffer[] = [];
    for await (const chunk of blob?.body ?? []) {
      if (read.length === 0) await deletes.deleteBlob(digestOf(bytes), Infinity);
      read.push(Buffer.from(chunk));
    }
    await blob?.close();
    expect(await visibleBlobs()).toEqual([]);
    expect(Buffer.concat(read).equals(bytes)).toBe(true);
  });

  it('never takes what was renewed at the same moment', async () => {
    const { blobs, deletes } = storage();
    const longAgo = new Date(Date.now() - 3_600_000);
    const kept: boolean[] = [];
    const lost: Digest[] = [];
    for (let round = 0; round < 300; round += 1) {
      const bytes = Buffer.from(`${round}`);
      const digest = digestOf(bytes);
      await blobs.put(digest, bytes);
      await utimes(join(root, blobPath(digest)), longAgo, longAgo);
      let renewed: number | undefined;
      const renewal = async (): Promise<void> => void (renewed = await blobs.renew(digest));
      const deletion = async (): Promise<void> => {
        await Promise.all([1, 2].map(() => deletes.deleteBlob(digest, Date.now() - 1_800_000)));
      };
      const [earlier, later] = round % 2 === 0 ? [renewal, deletion] : [deletion, renewal];
      const first = earlier();
      // The other one begins later and later, at last when the first has ended.
      for (let step = (round >> 1) % 10; step > 0; step -= 1) await (step === 9 ? first : stat(root));
      await Promise.all([first, later()]);
      const isThere = (await blobs.read(digest, 10))?.equals(bytes) === true;
      kept.push(renewed !== undefined);
      if (renewed !== undefined && !isThere) lost.push(digest);
    }
    expect(lost).toEqual([]);
    expect(new Set(kept)).toEqual(new Set([true, false]));
  });

  it('is taken back where the process that did it has died', async () => {
    const { blobs, inventory } = storage();
    const bytes = Buffer.from('half deleted');
    const digest = digestOf(bytes);
    await blobs.put(digest, bytes);
    const data = join(root, blobPath(digest));
    const written = (await stat(data)).mtimeMs;
    await rename(data, `${data}.deleting-0123`);
    for await (const page of inventory.listBlobs(undefined, new AbortController().signal)) {
      expect(page).toEqual([{ digest, size: bytes.byteLength, modifiedMs: written }]);
    }
    expect((await blobs.read(digest, 100))?.equals(bytes)).toBe(true);
    expect(await readdir(dirname(data))).toEqual(['data']);
  });

  it('prunes no folder from under a file that is moved there', async () => {
    const to = join(root, 'a/b/c/file');
    const from = Array.from({ length: 60 }, (_, index) => join(root, `from-${index}`));
    await Promise.all(from.map((path) => writeFile(path, path)));
    const over = new AbortController();
    const removers = Array.from({ length: 3 }, async () => {
      while (!over.signal.aborted) await removeAndPrune(to, root);
    });
    try {
      for (const path of from) await moveIntoPlace(path, to);
    } finally {
      over.abort();
      await Promise.all(removers);
    }
    expect(await readdir(root)).toEqual([]);
  });

  it('has trouble, not absence, where a blob’s place is a folder', async () => {
    const { deletes, plant } = storage();
    const digest = digestOf(Buffer.from('folder'));
    await plant(`${blobPath(digest)}/inside`, 'x');
    await expect(deletes.deleteBlob(digest, Infinity)).rejects.toBeInstanceOf(StorageError);
    expect(await readFile(join(root, blobPath(digest), 'inside'), 'utf8')).toBe('x');
  });
});

describe('records', () => {
  recordStoreContract(() =>
    Promise.resolve({
      store: new FilesystemRecordStore(root, workFolder()),
      keys: async () => (await readdir(join(root, 'cistern'))).filter((name) => name !== 'spool'),
    }),
  );

  it('are created once, however many try at the same time', async () => {
    const stores = Array.from({ length: 8 }, () => new FilesystemRecordStore(root, workFolder()));
    const results = await Promise.all(
      stores.map((store, index) => store.createRecord('cluster.json', Buffer.from(`from ${index}`))),
    );
    expect(new Set(results.map(String)).size).toBe(1);
  });

  it('give all replicas one identity, which another proxy.host may not use', async () => {
    const make = () => new FilesystemRecordStore(root, workFolder());
    const identities = await Promise.all(
      Array.from({ length: 4 }, () => establishIdentity(make(), 'docker.io')),
    );
    expect(new Set(identities.map((identity) => identity.secret)).size).toBe(1);
    await expect(establishIdentity(make(), 'ghcr.io')).rejects.toBeInstanceOf(IdentityConflict);
  });

  it('are readable by their owner alone', async () => {
    await establishIdentity(new FilesystemRecordStore(root, workFolder()), 'docker.io');
    const mode = execFileSync('stat', ['-c', '%a', join(root, 'cistern/cluster.json')], { encoding: 'utf8' });
    expect(mode.trim()).toBe('600');
  });
});

describe('folders for unfinished files', () => {
  const parentOf = (): string => join(root, 'cistern/spool');

  async function leftBehind(owner: Record<string, unknown>, name = 'left'): Promise<string> {
    const folder = join(parentOf(), name);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'owner.json'), JSON.stringify(owner));
    await writeFile(join(folder, 'spool.1'), 'half a blob');
    return folder;
  }

  async function ownerOfThis(): Promise<Record<string, unknown>> {
    const folder = workFolder();
    const path = await folder.newFile('x');
    return JSON.parse(await readFile(join(dirname(path), 'owner.json'), 'utf8')) as Record<string, unknown>;
  }

  it('of a dead process on this machine are swept at once', async () => {
    const child = spawn('true');
    await new Promise((resolve) => child.once('exit', resolve));
    const folder = await leftBehind({ ...(await ownerOfThis()), pid: child.pid });
    expect(await workFolder().sweep()).toBe(1);
    expect(existsSync(folder)).toBe(false);
  });

  it('of a process whose number has come back are swept', async () => {
    const owner = await ownerOfThis();
    const folder = await leftBehind({ ...owner, started: `${String(owner['started']).split(':')[0]}:1` });
    await workFolder().sweep();
    expect(existsSync(folder)).toBe(false);
  });

  it('of a process that lives are left alone', async () => {
    const folder = await leftBehind(await ownerOfThis());
    expect(await workFolder().sweep()).toBe(0);
    expect(existsSync(join(folder, 'spool.1'))).toBe(true);
  });

  it.each([{ started: 'another-boot:1' }, { namespace: 'pid:[1]' }])(
    'of a dead process that the kernel cannot see (%j) are swept after some beats of another process',
    async (elsewhere) => {
      const folder = await leftBehind({ ...(await ownerOfThis()), ...elsewhere, pid: 999_999_999, beat: 7 });
      expect(await workFolder().sweep()).toBe(0);
      const watching = workFolder(parentOf(), 10);
      expect(await watching.sweep()).toBe(0);
      await expect.poll(() => existsSync(folder)).toBe(false);
      expect(await watching.sweep()).toBe(1);
    },
  );

  it('without an owner file are swept after some beats', async () => {
    const folder = join(parentOf(), 'half-made');
    await mkdir(folder, { recursive: true });
    await workFolder(parentOf(), 10).newFile('x');
    await expect.poll(() => existsSync(folder)).toBe(false);
  });

  it('of a process that runs elsewhere are kept, however wrong its clock is', async () => {
    const owner = { ...(await ownerOfThis()), namespace: 'pid:[1]', pid: 999_999_999 };
    const folder = await leftBehind(owner, 'far');
    const watching = workFolder(parentOf(), 10);
    const own = join(dirname(await watching.newFile('x')), 'owner.json');
    const beatsOf = async (): Promise<number> =>
      (JSON.parse((await readFile(own, 'utf8')) || '{"beat":0}') as { beat: number }).beat;
    const yesterday = new Date(Date.now() - 24 * 60 * 60_000);
    for (let beat = 1; (await beatsOf()) < 40; beat += 1) {
      await writeFile(join(folder, 'owner.json'), JSON.stringify({ ...owner, beat }));
      await utimes(join(folder, 'owner.json'), yesterday, yesterday);
    }
    expect(existsSync(join(folder, 'spool.1'))).toBe(true);
  });

  it('are created again for a process that was taken for dead', async () => {
    const stopped = workFolder(parentOf(), 10);
    await stopped.newFile('x');
    await rm(stopped.path, { recursive: true });
    await expect.poll(() => existsSync(stopped.path)).toBe(true);
    await writeFile(await stopped.newFile('y'), '');
  });

  it('are gone after an orderly end', async () => {
    const folder = new WorkFolder(parentOf());
    await folder.newFile('x');
    await folder[Symbol.asyncDispose]();
    expect(await readdir(parentOf())).toEqual([]);
  });
});
