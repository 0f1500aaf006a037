import { expect, it } from 'vitest';
import { digestOf, type Digest, type DigestAlgorithm } from '../../src/oci/digest.js';
import * as layout from '../../src/storage/layout.js';
import {
  StorageError,
  type BlobStore,
  type Deletes,
  type Inventory,
  type RepositoryStore,
  type StoredBlob,
  type StoredLink,
  type Unlisted,
} from '../../src/storage/storage.js';
import { firstRepositories, repository, tag } from './repository-store.js';

export interface StorageUnderTest {
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  readonly inventory: Inventory;
  readonly deletes: Deletes;
  /** Puts bytes at a path below the store's root, whatever they are. */
  plant(path: string, bytes: string): Promise<void>;
  /** What is below registry's folder: paths from the store's root, and on a file system those of empty folders too. */
  remains(): Promise<string[]>;
}

const never = new AbortController().signal;
const a = repository('a');
const v1 = tag('v1');

interface Content {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

function content(text: string, algorithm?: DigestAlgorithm): Content {
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes, algorithm) };
}

const one = content('one');
const two = content('two', 'sha512');
const three = content('three');

async function pagesOf<T>(listing: AsyncIterable<readonly T[]>): Promise<(readonly T[])[]> {
  const pages: (readonly T[])[] = [];
  for await (const page of listing) pages.push(page);
  return pages;
}

async function all<T>(listing: AsyncIterable<readonly T[]>): Promise<T[]> {
  return (await pagesOf(listing)).flat();
}

function digestsOf(blobs: readonly StoredBlob[]): Digest[] {
  return blobs.map(({ digest }) => digest);
}

function shown(links: readonly StoredLink[]): string[] {
  return links
    .map((link) =>
      link.kind === 'tag'
        ? `${link.repository}:${link.tag} -> ${link.digest}`
        : `${link.kind} ${link.repository}@${link.digest}`,
    )
    .sort();
}

/** What every Inventory does. */
export function inventoryContract(make: () => Promise<StorageUnderTest>): void {
  it('has nothing to list at first', async () => {
    const { inventory } = await make();
    expect(await pagesOf(inventory.listBlobs(undefined, never))).toEqual([]);
    expect(await pagesOf(inventory.listLinks(never))).toEqual([]);
  });

  it('lists blobs in the order of their digests, with size and time, from any of them on', async () => {
    const { inventory, blobs } = await make();
    const before = await inventory.now();
    const put = Array.from({ length: 40 }, (_, n) => content(`${n}`, n % 8 === 0 ? 'sha512' : 'sha256'));
    for (const { digest, bytes } of put) await blobs.put(digest, bytes);
    const sorted = put.map(({ digest }) => digest).sort();
    const listed = await all(inventory.listBlobs(undefined, never));
    expect(digestsOf(listed)).toEqual(sorted);
    const after = await inventory.now();
    for (const { digest, size, modifiedMs } of listed) {
      expect(size).toBe(put.find((each) => each.digest === digest)?.bytes.byteLength);
      // An HTTP date, and some servers' times of objects, have no fractions of a second.
      expect(modifiedMs).toBeGreaterThan(before - 1_000);
      expect(modifiedMs).toBeLessThan(after + 1_000);
    }
    for (const from of [0, 17, sorted.length - 2, sorted.length - 1]) {
      expect(digestsOf(await all(inventory.listBlobs(sorted[from], never)))).toEqual(sorted.slice(from + 1));
    }
    const absent = digestOf(Buffer.from('absent'));
    expect(digestsOf(await all(inventory.listBlobs(absent, never)))).toEqual(
      sorted.filter((digest) => digest > absent),
    );
  });

  it('lists blobs in pages, none twice and none left out', async () => {
    const { inventory, plant } = await make();
    const digests = Array.from({ length: 1_010 }, (_, index) => digestOf(Buffer.from(`${index}`)));
    for (let from = 0; from < digests.length; from += 64) {
      await Promise.all(digests.slice(from, from + 64).map((digest) => plant(layout.blobPath(digest), 'x')));
    }
    const pages = await pagesOf(inventory.listBlobs(undefined, never));
    expect(pages.map(({ length }) => length)).toEqual([1_000, 10]);
    const sorted = [...digests].sort();
    expect(digestsOf(pages.flat())).toEqual(sorted);
    const rest = await all(inventory.listBlobs(sorted[499], never));
    expect(digestsOf(rest)).toEqual(sorted.slice(500));
  });

  it('lists the layers, manifests and tags of all repositories', async () => {
    const { inventory, repositories } = await make();
    const names = ['a', 'a-b', 'a/b', 'a/b/c', 'localhost__5000/x'].map(repository);
    for (const name of names) {
      await repositories.linkLayer(name, one.digest);
      await repositories.linkLayer(name, two.digest);
      await repositories.linkManifest(name, three.digest);
      await repositories.writeTag(name, v1, three.digest);
    }
    await repositories.linkLayer(repository('only/layers'), two.digest);
    expect(shown(await all(inventory.listLinks(never)))).toEqual(
      [
        ...names.flatMap((name) => [
          `layer ${name}@${one.digest}`,
          `layer ${name}@${two.digest}`,
          `manifest ${name}@${three.digest}`,
          `${name}:v1 -> ${three.digest}`,
        ]),
        `layer only/layers@${two.digest}`,
      ].sort(),
    );
  });

  it('lists where a tag points to now, wherever it pointed before', async () => {
    const { inventory, repositories } = await make();
    for (const name of ['v1', 'v1-x', '_1']) {
      for (const { digest } of [one, two, three]) await repositories.writeTag(a, tag(name), digest);
    }
    await repositories.writeTag(a, tag('v1-x'), one.digest);
    await repositories.writeTag(repository('a/b'), v1, one.digest);
    expect(shown(await all(inventory.listLinks(never)))).toEqual(
      [
        `a/b:v1 -> ${one.digest}`,
        `a:_1 -> ${three.digest}`,
        `a:v1 -> ${three.digest}`,
        `a:v1-x -> ${one.digest}`,
      ].sort(),
    );
  });

  it('passes by what is not named as registry names it', async () => {
    const { blobs: store, inventory, repositories, plant } = await make();
    const { digest, bytes } = two;
    const hex = digest.slice(digest.indexOf(':') + 1);
    const blobs = layout.blobsFolder;
    const base = `${layout.repositoriesFolder}/a`;
    for (const path of [
      `${blobs}/sha512/${hex.slice(0, 2)}/${hex}/data.tmp`,
      `${blobs}/sha512/${hex.slice(0, 2)}/${hex}/other/data`,
      `${blobs}/sha512/zz/${hex}/data`,
      `${blobs}/sha512/${hex.slice(0, 2) === '00' ? '01' : '00'}/${hex}/data`,
      `${blobs}/md5/d4/d41d8cd98f00b204e9800998ecf8427e/data`,
      `${blobs}/sha256/lost`,
      `${blobs}/README`,
      `${base}/_layers/sha256/${hex}/link`,
      `${base}/_layers/sha512/${hex}/linked`,
      `${base}/_manifests/revisions/sha512/short/link`,
      `${base}/_manifests/tags/-ill/current/link`,
      `${base}/_manifests/tags/never-current/index/sha512/${hex}/link`,
      `${base}/_uploads/1/data`,
      `${base}/UPPER/_layers/sha512/${hex}/link`,
      `${layout.repositoriesFolder}/_layers/sha512/${hex}/link`,
      `${layout.repositoriesFolder}/lost`,
      'cistern/jobs/sweep',
    ]) {
      await plant(path, digest);
    }
    expect(await all(inventory.listBlobs(undefined, never))).toEqual([]);
    expect(await all(inventory.listLinks(never))).toEqual([]);
    await store.put(digest, bytes);
    await repositories.linkLayer(a, digest);
    expect(digestsOf(await all(inventory.listBlobs(undefined, never)))).toEqual([digest]);
    expect(shown(await all(inventory.listLinks(never)))).toEqual([`layer a@${digest}`]);
  });

  it('reports a tag that names no digest, and goes on', async () => {
    const { inventory, repositories, plant } = await make();
    await repositories.writeTag(a, v1, one.digest);
    const path = layout.tagCurrentPath(a, tag('damaged'));
    await plant(path, 'sha256:12');
    const skipped: Unlisted[] = [];
    const skip = async (part: Unlisted): Promise<void> => void skipped.push(part);
    expect(shown(await all(inventory.listLinks(never, skip)))).toEqual([`a:v1 -> ${one.digest}`]);
    expect(skipped).toEqual([expect.objectContaining({ path, repository: a, onlyTags: true })]);
    await expect(all(inventory.listLinks(never))).rejects.toMatchObject({ code: 'io' });
  });

  it('stops where it is told to', async () => {
    const { inventory, blobs, repositories } = await make();
    await blobs.put(one.digest, one.bytes);
    await repositories.linkLayer(a, one.digest);
    const reason = new Error('enough');
    const stopped = AbortSignal.abort(reason);
    await expect(all(inventory.listBlobs(undefined, stopped))).rejects.toBe(reason);
    await expect(all(inventory.listLinks(stopped))).rejects.toBe(reason);
  });
}

/** What every Deletes does. */
export function deletesContract(make: () => Promise<StorageUnderTest>): void {
  it('deletes content, and no other', async () => {
    const { blobs, deletes, inventory } = await make();
    for (const { digest, bytes } of [one, two, three]) await blobs.put(digest, bytes);
    await deletes.deleteBlob(two.digest, Infinity);
    await deletes.deleteBlob(two.digest, Infinity);
    expect(await blobs.stat(two.digest)).toBeUndefined();
    expect(await blobs.open(two.digest)).toBeUndefined();
    expect(digestsOf(await all(inventory.listBlobs(undefined, never)))).toEqual(
      [one.digest, three.digest].sort(),
    );
  });

  it('keeps content that was written or renewed since the time that is given', async () => {
    const { blobs, deletes, inventory } = await make();
    for (const { digest, bytes } of [one, two]) await blobs.put(digest, bytes);
    const [written = 0] = (await all(inventory.listBlobs(undefined, never)))
      .map(({ modifiedMs }) => modifiedMs)
      .toSorted((a, b) => b - a);
    for (const { digest } of [one, two]) {
      expect(await deletes.deleteBlob(digest, written - 60_000)).toBe(false);
      expect(await deletes.condemnBlob(digest, written - 60_000)).toBe(false);
    }
    await expect.poll(() => inventory.now(), { timeout: 10_000 }).toBeGreaterThan(written + 2_000);
    expect(await blobs.renew(one.digest)).toBe(3);
    expect(await deletes.deleteBlob(one.digest, written + 1_000)).toBe(false);
    expect(await deletes.deleteBlob(two.digest, written + 1_000)).toBe(true);
    expect((await blobs.read(one.digest, 10))?.toString()).toBe('one');
    expect(await blobs.stat(two.digest)).toBeUndefined();
    expect(await blobs.renew(two.digest)).toBeUndefined();
  });

  it('shows no content that was found to be rotten, until it is stored anew', async () => {
    const { blobs, deletes, plant } = await make();
    await plant(layout.blobPath(one.digest), 'rot');
    expect(await deletes.condemnBlob(one.digest, Infinity)).toBe(true);
    expect(await blobs.stat(one.digest)).toBeUndefined();
    expect(await blobs.open(one.digest)).toBeUndefined();
    expect(await blobs.renew(one.digest)).toBeUndefined();
    await blobs.put(one.digest, one.bytes);
    expect((await blobs.read(one.digest, 10))?.toString()).toBe('one');
    await deletes.condemnBlob(one.digest, Infinity);
    expect(await deletes.deleteBlob(one.digest, Infinity)).toBe(true);
  });

  it('unlinks in one repository and no other', async () => {
    const { deletes, inventory, repositories } = await make();
    for (const name of [a, repository('a/b')]) {
      await repositories.linkLayer(name, one.digest);
      await repositories.linkLayer(name, two.digest);
      await repositories.linkManifest(name, three.digest);
    }
    await deletes.unlinkLayer(a, one.digest);
    await deletes.unlinkManifest(a, three.digest);
    expect(await repositories.hasLayer(a, one.digest)).toBe(false);
    expect(await repositories.hasManifest(a, three.digest)).toBe(false);
    expect(await firstRepositories(repositories, undefined, 10)).toEqual(['a/b']);
    expect(shown(await all(inventory.listLinks(never)))).toEqual(
      [
        `layer a@${two.digest}`,
        `layer a/b@${one.digest}`,
        `layer a/b@${two.digest}`,
        `manifest a/b@${three.digest}`,
      ].sort(),
    );
  });

  it('deletes a tag with its history, and no other', async () => {
    const { deletes, repositories, remains } = await make();
    for (const name of [v1, tag('v1-x')]) {
      for (const { digest } of [one, two, three]) await repositories.writeTag(a, name, digest);
    }
    await deletes.deleteTag(a, v1);
    expect(await repositories.readTag(a, v1)).toBeUndefined();
    expect(await repositories.listTags(a)).toEqual(['v1-x']);
    expect((await remains()).filter((path) => path.includes('/v1/'))).toEqual([]);
    expect(await remains()).toHaveLength(4);
  });

  it('leaves nothing where there is nothing left', async () => {
    const { blobs, deletes, repositories, remains } = await make();
    const deep = repository('ghcr.io/a/b');
    await blobs.put(one.digest, one.bytes);
    await repositories.linkLayer(deep, one.digest);
    await repositories.linkManifest(deep, two.digest);
    await repositories.writeTag(deep, v1, one.digest);
    await repositories.writeTag(deep, v1, two.digest);
    await deletes.deleteTag(deep, v1);
    await deletes.unlinkManifest(deep, two.digest);
    await deletes.unlinkLayer(deep, one.digest);
    await deletes.deleteBlob(one.digest, Infinity);
    expect(await remains()).toEqual([]);
  });

  it('has no trouble with what is absent', async () => {
    const { deletes, remains } = await make();
    await deletes.deleteBlob(one.digest, Infinity);
    await deletes.unlinkLayer(a, one.digest);
    await deletes.unlinkManifest(a, one.digest);
    await deletes.deleteTag(a, v1);
    expect(await remains()).toEqual([]);
  });

  it('leaves alone what it does not know', async () => {
    const { blobs, deletes, plant, repositories, remains } = await make();
    await blobs.put(one.digest, one.bytes);
    await repositories.writeTag(a, v1, one.digest);
    const notes = [
      layout.blobPath(one.digest).replace(/data$/, 'note'),
      `${layout.tagIndexFolder(a, v1)}/sha256/note`,
      `${layout.tagFolder(a, v1)}/note`,
    ];
    for (const note of notes) await plant(note, 'keep me');
    await deletes.deleteBlob(one.digest, Infinity);
    await deletes.deleteTag(a, v1);
    expect(await remains()).toEqual(notes.sort());
  });

  it('races with those who write and read the same, and nobody has trouble', async () => {
    const { blobs, deletes, inventory, repositories } = await make();
    const bytes = Buffer.alloc(50_000, 'x');
    const digest = digestOf(bytes);
    const over = new AbortController();
    const untilOver = async (work: () => Promise<unknown>): Promise<void> => {
      while (!over.signal.aborted) await work();
    };
    const others = [
      () => deletes.deleteBlob(digest, Infinity),
      () => deletes.unlinkLayer(a, digest),
      () => deletes.unlinkManifest(a, digest),
      () => deletes.deleteTag(a, v1),
      () => all(inventory.listBlobs(undefined, never)),
      () => all(inventory.listLinks(never)),
      async () => {
        const read = await blobs.read(digest, bytes.byteLength);
        expect(read?.equals(bytes) ?? 'absent').toBeOneOf([true, 'absent']);
      },
    ].map(untilOver);
    // The write fails while deletions take the content again and again, and the writer repeats it.
    const put = (): Promise<void> =>
      blobs.put(digest, bytes).catch((error: unknown) => {
        if (error instanceof StorageError && error.message.endsWith('is being deleted')) return put();
        throw error;
      });
    const write = async (): Promise<void> => {
      await put();
      await repositories.linkLayer(a, digest);
      await repositories.linkManifest(a, digest);
      await repositories.writeTag(a, v1, digest);
    };
    try {
      for (let round = 0; round < 20; round += 1) await Promise.all([write(), write()]);
    } finally {
      over.abort();
      await Promise.all(others);
    }
    await write();
    expect(await blobs.stat(digest)).toBe(bytes.byteLength);
    expect(shown(await all(inventory.listLinks(never)))).toHaveLength(3);
  });
}
