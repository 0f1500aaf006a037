import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { expect } from 'vitest';
import { algorithmOf, digestOf, type Digest } from '../../src/oci/digest.js';
import { blobPath } from '../../src/storage/layout.js';
import { FakeUpstream, type FakeUpstreamOptions } from '../fakes/fake-upstream.js';
import { type Cistern, type CisternOptions, type Settings, startCistern } from './cistern.js';
import { type Content, contentOf } from './image.js';
import { until } from './process.js';
import { randomBytes } from './random-bytes.js';
import { patience } from './patience.js';

export interface Mirror extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly cistern: Cistern;
  /** `http://…/v2/<path>`. */
  url(path: string): string;
}

export interface MirrorOptions extends Omit<CisternOptions, 'config'> {
  readonly upstream?: FakeUpstreamOptions;
  /** Laid over `remoteurl`. */
  readonly proxy?: Settings;
  readonly config?: Settings;
}

/** One replica in front of one fake upstream. */
export async function startMirror(options: MirrorOptions = {}): Promise<Mirror> {
  await using cleanup = new AsyncDisposableStack();
  const upstream = cleanup.use(await FakeUpstream.start(options.upstream));
  const { proxy, config, ...rest } = options;
  const cistern = cleanup.use(
    await startCistern({ ...rest, config: { ...config, proxy: { remoteurl: upstream.url, ...proxy } } }),
  );
  const owned = cleanup.move();
  return {
    upstream,
    cistern,
    url: (path) => `${cistern.url}/v2/${path}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A blob that the seed alone decides. */
export function blobOf(size: number, seed: string): Content {
  return contentOf('application/octet-stream', randomBytes(size, seed));
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The sum of a metric's samples that carry these labels; 0 where there is none. */
export async function metric(
  { debugUrl }: Pick<Cistern, 'debugUrl'>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const text = await (await fetch(`${debugUrl}/metrics`)).text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .filter((line) => wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** Until no transfer runs: what was fetched is stored, or given up. */
export function untilIdle(cistern: Cistern): Promise<void> {
  return until(async () => (await metric(cistern, 'cistern_transfers_running')) === 0, patience());
}

/** Until the blob is in the store under its name. */
export async function untilStored(cistern: Cistern, digest: Digest): Promise<void> {
  const folder = join(cistern.root, blobPath(digest), '..');
  await until(async () => (await filesUnder(folder)).includes('data'), patience());
}

/** An error in the distribution-spec's form, with nothing else beside it. */
export async function expectSpecError(response: Response, status: number, code: string): Promise<void> {
  const text = await response.text();
  expect({ status: response.status, text }).toMatchObject({ status });
  const { errors } = JSON.parse(text) as { errors: { code: string; message: string }[] };
  expect(errors).toEqual([expect.objectContaining({ code, message: expect.any(String) as string })]);
}

/** Paths of all files below a folder, relative to it; none where there is no folder. */
export async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    },
  );
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted();
}

export interface StoreContent {
  readonly blobs: Digest[];
  /** Link files, by their path below `repositories`, and what they point to. */
  readonly links: Readonly<Record<string, string>>;
}

/** What a store in a folder shows; fails unless every file hashes to its name and every link leads to content. */
export function soundStore(root: string): Promise<StoreContent> {
  const v2 = join(root, 'docker', 'registry', 'v2');
  return soundContent({
    list: (kind) => filesUnder(join(v2, kind)),
    read: (path) => readFile(join(v2, path)),
  });
}

/** A store's files below `docker/registry/v2`, wherever they are. */
export interface StoreFiles {
  /** Paths relative to the kind's folder. */
  list(kind: 'repositories' | 'blobs'): Promise<string[]>;
  /** With the kind's folder. */
  read(path: string): Promise<Buffer>;
}

/** The same for any store. */
export async function soundContent(files: StoreFiles): Promise<StoreContent> {
  // Links first: what they lead to must have been there before them.
  const links: Record<string, string> = {};
  for (const path of await files.list('repositories')) {
    links[path] = (await files.read(`repositories/${path}`)).toString();
  }
  const blobs: Digest[] = [];
  for (const path of await files.list('blobs')) {
    const [algorithm, , hex, file] = path.split('/');
    expect({ path, file }).toEqual({ path, file: 'data' });
    const digest = `${algorithm}:${hex}` as Digest;
    const bytes = await files.read(`blobs/${path}`);
    expect({ path, digest: digestOf(bytes, algorithmOf(digest)) }).toEqual({ path, digest });
    blobs.push(digest);
  }
  const dangling = Object.entries(links).filter(([, target]) => !blobs.includes(target as Digest));
  expect(dangling).toEqual([]);
  return { blobs, links };
}

/** Unfinished blobs in the spool folder, of whatever process. The jobs' index lies there too. */
export async function spooled(root: string): Promise<string[]> {
  const files = await filesUnder(join(root, 'cistern', 'spool'));
  return files.filter((file) => !/\/(?:owner\.json|index\.[0-9a-f]+)$/.test(file));
}
