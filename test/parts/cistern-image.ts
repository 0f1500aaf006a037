import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importBuildImages } from './base-images.js';
import { type Dockerd, startDockerd } from './dockerd.js';

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

/** `docker build .` at the top of the checkout; what comes of it is kept for {@link loadCisternImage}. */
export async function buildCisternImage(dockerd: Dockerd): Promise<void> {
  await importBuildImages(dockerd);
  const name = await archiveName(); // before: what is changed meanwhile may not be in it
  const built = await dockerd.docker(['build', '--network', 'host', '--tag', cisternImage, checkout], {
    env: { DOCKER_BUILDKIT: '1' },
    timeoutMs: 600_000,
  });
  if (built.code !== 0) throw new Error(`the image cannot be built\n${built.stderr.slice(-4000)}`);
  await rm(cache, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  await dockerd.docker(['save', '--output', `${name}.${process.pid}`, cisternImage]);
  await rename(`${name}.${process.pid}`, name);
}

/** The image as it was built last from the same sources, or built now. */
export async function loadCisternImage(dockerd: Dockerd): Promise<void> {
  const name = await archiveName();
  if (existsSync(name)) await dockerd.docker(['load', '--input', name]);
  else await buildCisternImage(dockerd);
}

/** The same as an archive, built by an Engine of its own: for one that reaches nothing to build from. */
export async function cisternImageArchive(): Promise<string> {
  const name = await archiveName();
  if (!existsSync(name)) {
    await using builder = await startDockerd();
    await buildCisternImage(builder);
  }
  return name;
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
