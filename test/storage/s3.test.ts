import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  CreateMultipartUploadCommand,
} from '@aws-sdk/client-s3';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { S3Config } from '../../src/config/config.js';
import { Secret } from '../../src/config/secret.js';
import { digestOf, type Digest } from '../../src/oci/digest.js';
import { blobPath, tagCurrentPath } from '../../src/storage/layout.js';
import { establishIdentity } from '../../src/storage/identity.js';
import { S3BlobStore } from '../../src/storage/s3/blob-store.js';
import { Bucket } from '../../src/storage/s3/bucket.js';
import { Deletions } from '../../src/storage/s3/deletions.js';
import { S3Deletes } from '../../src/storage/s3/deletes.js';
import { S3Inventory } from '../../src/storage/s3/inventory.js';
import { S3RecordStore } from '../../src/storage/s3/record-store.js';
import { S3Links } from '../../src/storage/s3/links.js';
import { LinkedRepositories } from '../../src/storage/linked-repositories.js';
import { Spool } from '../../src/storage/spool.js';
import { StorageError, type RecordStore } from '../../src/storage/storage.js';
import { blobStoreContract, verifiedFile } from '../contracts/blob-store.js';
import { deletesContract, inventoryContract, type StorageUnderTest } from '../contracts/inventory.js';
import { recordStoreContract } from '../contracts/record-store.js';
import { repository, repositoryStoreContract, tag } from '../contracts/repository-store.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { MemoryRecords } from '../fakes/memory-records.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { lacks } from '../parts/debian.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { until } from '../parts/process.js';
import { S3Counter } from '../parts/s3-counter.js';
import { patience } from '../parts/patience.js';

const unobserved = (): void => undefined;
const log = pino({ level: 'silent' });
const chunk = 5 * 2 ** 20;

describe.skipIf(lacks(...cephParts))('blobs and links in a bucket', () => {
  let rgw: CephRgw;
  let bucket: string;
  let folder: TemporaryFolder;
  let connected: Bucket[];

  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    bucket = await rgw.newBucket();
    folder = await temporaryFolder();
    connected = [];
  });
  afterEach(async () => {
    for (const each of connected) each.close();
    await folder[Symbol.asyncDispose]();
  });

  function connect(changes: Partial<S3Config> = {}): Bucket {
    const made = new Bucket({ ...rgw.config(bucket), rootdirectory: 'some/root', ...changes }, log);
    connected.push(made);
    return made;
  }

  function blobs(changes: Partial<S3Config> = {}): S3BlobStore {
    return new S3BlobStore({
      bucket: connect(changes),
      chunkSize: chunk,
      youngMs: 0,
      log,
      observe: unobserved,
    });
  }

  async function keys(): Promise<string[]> {
    const { Contents = [] } = await rgw.client.send(new ListObjectsV2Command({ Bucket: bucket }));
    return Contents.map(({ Key = '' }) => Key);
  }

  async function uploads(): Promise<string[]> {
    const { Uploads = [] } = await rgw.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    return Uploads.map(({ Key = '' }) => Key);
  }

  async function visible(): Promise<string[]> {
    return (await keys()).map((key) => {
      const [, algorithm, pair, hex = ''] =
        /^some\/root\/docker\/registry\/v2\/blobs\/(sha\d+)\/(..)\/([0-9a-f]+)\/data$/.exec(key) ?? [];
      expect(hex.slice(0, 2)).toBe(pair);
      return `${algorithm}:${hex}`;
    });
  }

  const spoolPath = () => join(folder.path, randomBytes(8).toString('hex'));

  /** A blob that arrives piece by piece. */
  async function arriving(size: number) {
    const bytes = randomBytes(size);
    const digest = digestOf(bytes);
    const spool = await Spool.create(digest, spoolPath());
    return {
      bytes,
      digest,
      spool,
      /** Settles when the file has all full blocks of it. */
      append: async (from: number, to: number) => {
        await spool.append(bytes.subarray(from, to));
        await until(() => spool.length - spool.kept < 256 * 1024, patience());
      },
    };
  }

  async function stored(store: S3BlobStore, digest: Digest): Promise<Buffer | undefined> {
    return store.read(digest, 2 ** 30);
  }

  describe('blobs', () => {
    blobStoreContract(() =>
      Promise.resolve({
        store: blobs(),
        other: blobs(),
        newSpool: () => Promise.resolve(spoolPath()),
        visible,
      }),
    );

    it('takes a large blob in parts, whole', async () => {
      const store = blobs();
      const bytes = randomBytes(3 * chunk + 17);
      await store.take(await verifiedFile(spoolPath(), bytes, digestOf(bytes)));
      expect((await stored(store, digestOf(bytes)))?.equals(bytes)).toBe(true);
      expect(await uploads()).toEqual([]);
      expect(await readdir(folder.path)).toEqual([]);
    });

    it('tells trouble from absence', async () => {
      const digest = digestOf(Buffer.from('x'));
      const wrong = blobs({ secretkey: new Secret('wrong') });
      await expect(wrong.open(digest)).rejects.toMatchObject({ name: 'StorageError', code: 'denied' });
      await expect(blobs({ bucket: 'nowhere' }).open(digest)).rejects.toMatchObject({ code: 'io' });
      const gone = blobs({ endpoint: 'http://127.0.0.1:1' });
      await expect(gone.stat(digest)).rejects.toBeInstanceOf(StorageError);
    });

    it('says nothing of its keys in an error', async () => {
      const error: unknown = await blobs({ secretkey: new Secret('wrong-secret') })
        .open(digestOf(Buffer.from('x')))
        .catch((reason: unknown) => reason);
      const told = JSON.stringify(pino.stdSerializers.err(error as Error));
      expect(told).not.toMatch(/wrong-secret|AWS4|StringToSign/);
    });
  });

  describe('repositories', () => {
    const repositories = (records: RecordStore = new MemoryRecords()): LinkedRepositories =>
      new LinkedRepositories(new S3Links(connect(), unobserved), records);

    repositoryStoreContract(() => {
      const records = new S3RecordStore(connect());
      return { repositories: repositories(records), records };
    });

    it('lie where registry looks for them', async () => {
      const store = repositories();
      const digest = digestOf(Buffer.from('x'));
      await store.writeTag(repository('a/b'), tag('v1'), digest);
      expect(await keys()).toEqual([
        'some/root/docker/registry/v2/repositories/a/b/_manifests/tags/v1/current/link',
        `some/root/docker/registry/v2/repositories/a/b/_manifests/tags/v1/index/sha256/${digest.slice(7)}/link`,
      ]);
    });

    it('lists more tags than fit on a page, and none that was never made current', async () => {
      const store = repositories();
      const digest = digestOf(Buffer.from('x'));
      const names = Array.from({ length: 510 }, (_, index) => `t${String(index).padStart(4, '0')}`);
      for (let from = 0; from < names.length; from += 64) {
        const some = names.slice(from, from + 64);
        await Promise.all(some.map((name) => store.writeTag(repository('a'), tag(name), digest)));
      }
      const half = `some/root/docker/registry/v2/repositories/a/_manifests/tags/half/index/sha256/${digest.slice(7)}/link`;
      await rgw.client.send(new PutObjectCommand({ Bucket: bucket, Key: half, Body: digest }));
      expect(await store.listTags(repository('a'))).toEqual(names);
    });
  });

  function storage(): StorageUnderTest {
    const connection = connect();
    const links = new S3Links(connection, unobserved);
    return {
      blobs: new S3BlobStore({ bucket: connection, chunkSize: chunk, youngMs: 0, log, observe: unobserved }),
      repositories: new LinkedRepositories(links, new MemoryRecords()),
      inventory: new S3Inventory(connection, links, unobserved),
      deletes: new S3Deletes(connection, unobserved),
      plant: async (path, bytes) => {
        const Key = `some/root/${path}`;
        await rgw.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: bytes }));
      },
      remains: async () => (await keys()).map((key) => key.slice('some/root/'.length)),
    };
  }

  describe('a deletion that is late', () => {
    it('is refused by the bucket itself', async () => {
      const { blobs, inventory } = storage();
      const bytes = Buffer.from('linked again');
      const digest = digestOf(bytes);
      await blobs.put(digest, bytes);
      const signal = AbortSignal.timeout(60_000);
      const bucket = connect();
      const key = blobPath(digest);
      const late = { fromMs: (await inventory.now()) - 12_000, seconds: 10 };
      await expect(bucket.removeBefore(key, late, signal)).rejects.toMatchObject({ code: 'denied' });
      await expect(bucket.markRottenBefore(key, 1, late, signal)).rejects.toMatchObject({ code: 'denied' });
      expect((await blobs.read(digest, 100))?.equals(bytes)).toBe(true);
      await bucket.removeBefore(key, { fromMs: await inventory.now(), seconds: 10 }, signal);
      expect(await blobs.stat(digest)).toBeUndefined();
    });
  });

  describe('renewed content', () => {
    it('is not trusted while a deletion may still take it', async () => {
      const bytes = Buffer.from('linked again');
      const digest = digestOf(bytes);
      const deletions = new Deletions(connect());
      await blobs().put(digest, bytes);
      const announced = await deletions.announce(digest);
      expect(await blobs().renew(digest)).toBeUndefined();
      await deletions.end(announced);
      expect(await blobs().renew(digest)).toBe(bytes.byteLength);
    });

    it('is written again when a deletion took it that had begun before', async () => {
      const bytes = Buffer.from('stored again');
      const digest = digestOf(bytes);
      const deletions = new Deletions(connect());
      const announced = await deletions.announce(digest);
      const put = blobs().take(await verifiedFile(spoolPath(), bytes, digest));
      await until(async () => (await blobs().stat(digest)) !== undefined, patience());
      await connect().remove(blobPath(digest));
      await deletions.end(announced);
      await put;
      expect(await blobs().stat(digest)).toBe(bytes.byteLength);
    });

    it('is a manifest that is not stored for now, so that no pull waits for a deleter that died', async () => {
      const bytes = Buffer.from('a manifest');
      const digest = digestOf(bytes);
      await new Deletions(connect()).announce(digest);
      await expect(blobs().put(digest, bytes)).rejects.toBeInstanceOf(StorageError);
    });
  });

  describe('rotten content', () => {
    it('counts as absent until it is stored again', async () => {
      const bytes = Buffer.from('rotten');
      const digest = digestOf(bytes);
      await blobs().put(digest, bytes);
      expect(await storage().deletes.condemnBlob(digest, Infinity)).toBe(true);
      expect(await blobs().presign(digest)).toBeUndefined();
      expect(await blobs().renew(digest)).toBeUndefined();
      await blobs().put(digest, bytes);
      expect(await blobs().presign(digest)).toMatchObject({ size: bytes.byteLength });
    });
  });

  describe('the inventory', () => {
    inventoryContract(() => Promise.resolve(storage()));

    it('reads only those tags that have pointed elsewhere', async () => {
      const { repositories } = storage();
      const digests = ['1', '2'].map((text) => digestOf(Buffer.from(text)));
      const [first, second] = digests;
      if (first === undefined || second === undefined) throw new Error('unreachable');
      for (const name of ['a', 'b', 'c', 'd']) await repositories.writeTag(repository('r'), tag(name), first);
      await repositories.writeTag(repository('r'), tag('c'), second);
      await using counter = await S3Counter.start(rgw.regionendpoint);
      const connection = connect({ endpoint: counter.url });
      const inventory = new S3Inventory(connection, new S3Links(connection, unobserved), unobserved);
      for await (const page of inventory.listLinks(new AbortController().signal)) {
        expect(page).toHaveLength(4);
      }
      const objects = counter.requests.filter(({ query }) => query.get('list-type') === null);
      expect(objects.map(({ method, path }) => `${method} ${path}`)).toEqual([
        `GET /${bucket}/some/root/${tagCurrentPath(repository('r'), tag('c'))}`,
      ]);
    });

    it('is trouble where the bucket is', async () => {
      const connection = connect({ bucket: 'nowhere' });
      const inventory = new S3Inventory(connection, new S3Links(connection, unobserved), unobserved);
      const { signal } = new AbortController();
      const listing = inventory.listBlobs(undefined, signal)[Symbol.asyncIterator]();
      await expect(listing.next()).rejects.toBeInstanceOf(StorageError);
      await expect(inventory.now()).rejects.toBeInstanceOf(StorageError);
    });

    it("tells the server's time, which may be another than this machine's", async () => {
      const { inventory } = storage();
      const elsewhere = 3 * 60_000;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - elsewhere });
      try {
        expect(await inventory.now()).toBeGreaterThan(Date.now() + elsewhere - 60_000);
      } finally {
        vi.useRealTimers();
      }
    });
  });

  describe('deleting', () => {
    deletesContract(() => Promise.resolve(storage()));
  });

  describe('records', () => {
    recordStoreContract(() => Promise.resolve({ store: new S3RecordStore(connect()), keys }));

    it('are replaced, and made once by however many', async () => {
      const store = new S3RecordStore(connect());
      expect(await store.readRecord('a/b.json')).toBeUndefined();
      await store.writeRecord('a/b.json', Buffer.from('1'));
      await store.writeRecord('a/b.json', Buffer.from('2'));
      expect((await store.readRecord('a/b.json'))?.toString()).toBe('2');
      const made = await Promise.all(
        Array.from({ length: 12 }, () => establishIdentity(new S3RecordStore(connect()), 'docker.io')),
      );
      expect(new Set(made.map(({ id }) => id)).size).toBe(1);
      expect(await keys()).toContain('some/root/cistern/cluster.json');
    });

    it("takes registry's schedule away", async () => {
      const store = new S3RecordStore(connect());
      const Key = 'some/root/scheduler-state.json';
      await rgw.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: '{}' }));
      expect(await store.adopt('scheduler-state.json', 'adopted/scheduler-state.json')).toBe(true);
      expect(await store.adopt('scheduler-state.json', 'adopted/scheduler-state.json')).toBe(false);
      expect(await keys()).toEqual(['some/root/cistern/adopted/scheduler-state.json']);
    });
  });

  describe('presigning', () => {
    it('gives an address that works without credentials, and for ranges', async () => {
      const store = blobs();
      const bytes = randomBytes(100_000);
      await store.put(digestOf(bytes), bytes);
      const made = await store.presign(digestOf(bytes));
      expect(made?.size).toBe(bytes.byteLength);
      const expires = new URL(made?.url ?? '').searchParams.get('X-Amz-Expires');
      expect(Number(expires) * 1000).toBe(store.lifetimeMs);
      const response = await fetch(made?.url ?? '');
      expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
      const part = await fetch(made?.url ?? '', { headers: { range: 'bytes=10-19' } });
      expect(part.status).toBe(206);
      expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(10, 20))).toBe(true);
    });

    it('looks at the object once, and gives none that is absent', async () => {
      await using counter = await S3Counter.start(rgw.regionendpoint);
      const store = blobs({ endpoint: counter.url });
      const bytes = randomBytes(1000);
      const digest = digestOf(bytes);
      expect(await store.presign(digest)).toBeUndefined();
      await store.put(digest, bytes);
      counter.requests.length = 0;
      const made = await Promise.all(Array.from({ length: 20 }, () => store.presign(digest)));
      expect(new Set(made.map((each) => each?.url)).size).toBe(1);
      expect((await store.presign(digest))?.url).toBe(made[0]?.url);
      expect(counter.requests.map(({ method }) => method)).toEqual(['HEAD']);
    });
  });

  describe('an early upload', () => {
    it('sends parts while the blob arrives, and shows nothing before it is complete', async () => {
      await using counter = await S3Counter.start(rgw.regionendpoint);
      const store = blobs({ endpoint: counter.url });
      const { bytes, digest, spool, append } = await arriving(4 * chunk + 5);
      const upload = store.begin(digest, spool.path);
      await append(0, chunk - 1);
      upload.grown(spool.kept, bytes.byteLength);
      expect(counter.requests).toEqual([]);
      await append(chunk - 1, 3 * chunk);
      const partsSent = (): number => {
        upload.grown(spool.kept, bytes.byteLength); // the file is written behind
        return counter.parts().length;
      };
      await until(() => partsSent() === 3, patience());
      expect(await keys()).toEqual([]);
      await append(3 * chunk, bytes.byteLength);
      spool.verify(bytes.byteLength);
      const file = await spool.toFile();
      await spool.release();
      await upload.complete(file);
      await upload.abort();
      expect((await stored(store, digest))?.equals(bytes)).toBe(true);
      expect(counter.parts()).toHaveLength(5);
      expect(await uploads()).toEqual([]);
    });

    it('does so without knowing the size', async () => {
      const store = blobs();
      const { bytes, digest, spool, append } = await arriving(2 * chunk + 5);
      const upload = store.begin(digest, spool.path);
      for (let from = 0; from < bytes.byteLength; from += 1_000_000) {
        await append(from, from + 1_000_000);
        upload.grown(spool.kept, undefined);
      }
      spool.verify(undefined);
      const file = await spool.toFile();
      await spool.release();
      await upload.complete(file);
      expect((await stored(store, digest))?.equals(bytes)).toBe(true);
    });

    it('leaves nothing when it is given up', async () => {
      const store = blobs();
      const { bytes, digest, spool, append } = await arriving(3 * chunk);
      const upload = store.begin(digest, spool.path);
      await append(0, 2 * chunk + 1);
      const uploadsBegun = async (): Promise<number> => {
        upload.grown(spool.kept, bytes.byteLength); // the file is written behind
        return (await uploads()).length;
      };
      await until(async () => (await uploadsBegun()) === 1, patience());
      await spool.release();
      await upload.abort();
      await spool.discard();
      expect(await uploads()).toEqual([]);
      expect(await keys()).toEqual([]);
    });

    it('starts over where a part was in trouble', async () => {
      await using link = await LinkProxy.start({ target: rgw.regionendpoint });
      const store = blobs({ endpoint: link.url });
      const { bytes, digest, spool, append } = await arriving(3 * chunk);
      const upload = store.begin(digest, spool.path);
      await append(0, 2 * chunk);
      await link.down();
      upload.grown(spool.kept, bytes.byteLength);
      await append(2 * chunk, 3 * chunk);
      spool.verify(bytes.byteLength);
      const file = await spool.toFile();
      await spool.release();
      const completing = upload.complete(file);
      await link.up();
      await completing;
      expect((await stored(store, digest))?.equals(bytes)).toBe(true);
    });

    it('is settled by the object itself where the answer to its end is lost', async () => {
      await using counter = await S3Counter.start(rgw.regionendpoint);
      counter.cutAnswers = ({ method, query }) => method === 'POST' && query.has('uploadId');
      const store = blobs({ endpoint: counter.url });
      const bytes = randomBytes(2 * chunk);
      const digest = digestOf(bytes);
      await store.take(await verifiedFile(spoolPath(), bytes, digest));
      expect(counter.cut).toBeGreaterThan(0);
      expect((await stored(store, digest))?.equals(bytes)).toBe(true);
      expect(counter.parts()).toHaveLength(2);
      expect(await uploads()).toEqual([]);
    });

    it('may race with others of equal content', async () => {
      const bytes = randomBytes(2 * chunk);
      const digest = digestOf(bytes);
      const stores = [blobs(), blobs(), blobs()];
      const files = await Promise.all(stores.map(() => verifiedFile(spoolPath(), bytes, digest)));
      const all = stores.map((store, index) => {
        const file = files[index];
        if (file === undefined) throw new Error('no file');
        const upload = store.begin(digest, file.path);
        upload.grown(bytes.byteLength, bytes.byteLength);
        return upload.complete(file);
      });
      await Promise.all(all);
      expect((await stored(blobs(), digest))?.equals(bytes)).toBe(true);
      expect(await uploads()).toEqual([]);
      expect(await visible()).toEqual([digest]);
    });
  });

  it('sweeps uploads that were begun long ago, and no others', async () => {
    const store = blobs();
    const digest = digestOf(Buffer.from('x'));
    const ours = `some/root/${blobPath(digest)}`;
    for (const Key of [ours, 'another/key']) {
      await rgw.client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }));
    }
    expect(await store.sweepUploads(60_000)).toBe(0);
    expect(await store.sweepUploads(-60_000)).toBe(1);
    expect(await uploads()).toEqual(['another/key']);
  });

  it('breaks off where a body is cut, rather than end early', async () => {
    await using link = await LinkProxy.start({ target: rgw.regionendpoint });
    const store = blobs();
    const bytes = randomBytes(8 * 2 ** 20);
    const digest = digestOf(bytes);
    await store.take(await verifiedFile(spoolPath(), bytes, digest));
    link.inject({ cutAt: 2_000_000 });
    const blob = await blobs({ endpoint: link.url }).open(digest);
    const reading = (async () => {
      let read = 0;
      for await (const piece of blob?.body ?? []) read += piece.byteLength;
      return read;
    })();
    await expect(reading).rejects.toBeInstanceOf(StorageError);
    await blob?.close();
  });

  it('keeps objects with the content type that registry gives them', async () => {
    const store = blobs();
    const bytes = Buffer.from('{}');
    await store.put(digestOf(bytes), bytes);
    const Key = `some/root/${blobPath(digestOf(bytes))}`;
    const object = await rgw.client.send(new GetObjectCommand({ Bucket: bucket, Key }));
    expect(object.ContentType).toBe('application/octet-stream');
    object.Body?.transformToByteArray().catch(() => undefined);
  });
});
