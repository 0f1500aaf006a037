import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importBuildImages } from './base-images.js';
import { type Dockerd, startDockerd } from './dockerd.js';
import { takeTurn } from './turn.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const cache = join(checkout, 'node_modules/.cache/cistern-image');
/** What the Dockerfile copies in. */
const sources = [
  'Dockerfile',
  '.dockerignore',
  '.npmrc',
  'package.json',
  'package-lock.json',
  'nest-cli.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'src',
  'deploy/config',
  'deploy/image',
  'docs/openapi.yaml',
];

export const cisternImage = 'cistern:test';

/** The image as it was built last from the same sources, or built now. */
export async function loadCisternImage(dockerd: Dockerd): Promise<void> {
  await dockerd.docker(['load', '--input', await cisternImageArchive()]);
}

/** The same as an archive: several files of tests share one, which the first builds by an Engine of its own. */
export async function cisternImageArchive(): Promise<string> {
  const name = await archiveName();
  using _turn = await takeTurn(cache);
  if (!existsSync(name)) {
    await using builder = await startDockerd();
    await build(builder, name);
  }
  return name;
}

/** `docker build .` at the top of the checkout. */
async function build(dockerd: Dockerd, name: string): Promise<void> {
  await importBuildImages(dockerd);
  const built = await dockerd.docker(['build', '--network', 'host', '--tag', cisternImage, checkout], {
    env: { DOCKER_BUILDKIT: '1' },
    timeoutMs: 600_000,
  });
  if (built.code !== 0) throw new Error(`the image cannot be built\n${built.stderr.slice(-4000)}`);
  await rm(cache, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  const saved = await dockerd.docker(['save', '--output', `${name}.${process.pid}`, cisternImage]);
  if (saved.code !== 0) throw new Error(`the image cannot be saved\n${saved.stderr}`);
  await rename(`${name}.${process.pid}`, name);
}

async function archiveName(): Promise<string> {
  const hash = createHash('sha256');
  for (const source of sources) {
    for (const file of await filesOf(join(checkout, source))) {
      hash.update(relative(checkout, file)).update(await readFile(file));
    }
  }
  return join(cache, `${hash.digest('hex').slice(0, 16)}.tar`);
}

async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.spec.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
}
