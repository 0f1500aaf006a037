import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { Digest } from '../../src/oci/digest.js';
import { cephParts, type CephRgw, startCephRgw } from './ceph-rgw.js';
import type { Settings } from './cistern.js';
import { lacks, type Part } from './debian.js';
import { temporaryFolder } from './folder.js';
import { filesUnder, soundContent, soundStore, spooled } from './mirror.js';

/** Where replicas keep content in common. */
export interface SharedStore extends AsyncDisposable {
  /** A folder: the store itself, or where replicas over a bucket have their spools. */
  readonly root: string;
  /** Laid over the settings of each replica. */
  readonly config: Settings;
  /** The blobs that it shows. Fails unless each is what its name says, and every link leads to one. */
  blobs(): Promise<Digest[]>;
  /** What replicas have begun to put there, by path: spools in a folder, uploads to a bucket. */
  unfinished(): Promise<string[]>;
  /** Files by their path below the root: as another process leaves or removes them. */
  write(path: string, bytes: string | Uint8Array): Promise<void>;
  remove(path: string): Promise<void>;
  list(below: string): Promise<string[]>;
}

export type NewStore = () => Promise<SharedStore>;

/**
 * The same tests twice: of replicas over a folder, and of replicas over a bucket of one Ceph gateway, each test with a
 * store of its own. Where content lies must make no difference to whoever uses this.
 */
export function describeOverStores(
  title: string,
  needed: readonly Part[],
  tests: (newStore: NewStore) => void,
): void {
  describe.skipIf(lacks(...needed))(`${title}, over a folder`, () => {
    tests(newFolder);
  });
  describe.skipIf(lacks(...needed, ...cephParts))(`${title}, over a bucket`, () => {
    let rgw: CephRgw;
    beforeAll(async () => {
      rgw = await startCephRgw();
    });
    afterAll(async () => {
      await rgw?.[Symbol.asyncDispose]();
    });
    tests(() => newBucket(rgw));
  });
}

/** What a transfer began and did not need is gone soon after its end; so much is left. */
export async function expectUnfinished(store: SharedStore, count = 0): Promise<void> {
  await expect.poll(() => store.unfinished()).toHaveLength(count);
}

export async function newFolder(): Promise<SharedStore> {
  const folder = await temporaryFolder();
  const root = join(folder.path, 'root');
  return {
    root,
    config: {},
    blobs: async () => (await soundStore(root)).blobs,
    unfinished: () => spooled(root),
    write: async (path, bytes) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), bytes);
    },
    remove: (path) => rm(join(root, path)),
    list: (below) => filesUnder(join(root, below)),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

export interface BucketOptions {
  /** What the replicas are told instead of the gateway's own address. */
  readonly endpoint?: string;
  /** Whether clients are sent to the gateway. Default: no. */
  readonly redirect?: boolean;
}

export interface BucketStore extends SharedStore {
  /** `storage.s3`. */
  readonly s3: Settings;
  readonly bucket: string;
}

export async function newBucket(rgw: CephRgw, options: BucketOptions = {}): Promise<BucketStore> {
  const { endpoint = rgw.regionendpoint, redirect = false } = options;
  const { client } = rgw;
  const bucket = await rgw.newBucket();
  const folder = await temporaryFolder();
  const s3 = rgw.settings(bucket, { regionendpoint: endpoint });
  const list = async (prefix: string): Promise<string[]> => {
    const page = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
    expect(page.IsTruncated).toBe(false);
    return (page.Contents ?? []).map(({ Key = '' }) => Key.slice(prefix.length));
  };
  const read = async (key: string): Promise<Buffer> => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  };
  const v2 = 'docker/registry/v2';
  const content = {
    list: (kind: string) => list(`${v2}/${kind}/`),
    read: (path: string) => read(`${v2}/${path}`),
  };
  return {
    root: folder.path,
    bucket,
    s3,
    config: {
      storage: { s3, redirect: { disable: !redirect } },
      proxy: { spool: { directory: join(folder.path, 'spool') } },
    },
    blobs: async () => (await soundContent(content)).blobs,
    unfinished: async () => {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
      return Uploads.map(({ Key = '' }) => Key);
    },
    write: async (path, bytes) => {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: path, Body: bytes }));
    },
    remove: async (path) => {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: path }));
    },
    list: (below) => list(`${below}/`),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}
