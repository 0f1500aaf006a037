import { existsSync, lstatSync } from 'node:fs';
import { cp, mkdir, realpath, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { commandOf } from './debian.js';
import type { Dockerd } from './dockerd.js';
import { temporaryFolder } from './folder.js';
import { runSuccessfully } from './process.js';

/*
 * Stand-ins for public base images, under their names, made of the Debian packages that are installed here: a private
 * engine pulls nothing. Each holds less than the image whose name it has, so what works on it works there.
 */

const debian = [
  'base-files',
  'base-passwd',
  'bash',
  'coreutils',
  'dash',
  'debianutils',
  'findutils',
  'grep',
  'hostname',
  'libc-bin',
  'libstdc++6',
  'sed',
  'tar',
];

/** Only the packages' own scripts need them. */
const left = new Set([
  'adduser',
  'debconf',
  'init-system-helpers',
  'lsb-base',
  'perl-base',
  'sysvinit-utils',
]);
const unread = /^\/usr\/share\/(?:doc|info|lintian|locale|man|menu)\//;
const pathVariable = 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const extraCertificates = process.env['NODE_EXTRA_CA_CERTS'] ?? '';
/** Without the Node of this checkout: npm takes its settings from beside the one that runs it. */
const ownPath = {
  PATH: (process.env['PATH'] ?? '')
    .split(':')
    .filter((folder) => !folder.includes('node_modules'))
    .join(':'),
};
const checkout = fileURLToPath(new URL('../..', import.meta.url));

/** What the Dockerfile builds upon. */
export async function importBuildImages(dockerd: Dockerd): Promise<void> {
  await importImage(dockerd, 'debian:bookworm-slim', debian);
  const certificates = `ENV NODE_EXTRA_CA_CERTS=${extraCertificates}`;
  await importImage(dockerd, 'node:24-bookworm-slim', debian, addNode, certificates);
  await importImage(dockerd, 'busybox:1.37-musl', [], async (root) => {
    await copy(commandOf('busybox'), join(root, 'bin/busybox'));
  });
}

/** Redis as its image has it, as far as packages go: nothing starts it. */
export async function importRedis(dockerd: Dockerd, tag: string): Promise<void> {
  await importImage(dockerd, tag, [...debian, 'redis-server', 'redis-tools']);
}

/** A program of Debian's in an image of its own. */
export async function importProgram(dockerd: Dockerd, tag: string, name: string): Promise<void> {
  await importImage(dockerd, tag, [...debian, name]);
}

async function importImage(
  dockerd: Dockerd,
  tag: string,
  packages: readonly string[],
  add: (root: string) => Promise<void> = async () => undefined,
  change: string = pathVariable,
): Promise<void> {
  await using folder = await temporaryFolder();
  const root = join(folder.path, 'root');
  const archive = join(folder.path, 'image.tar');
  await mkdir(root, { mode: 0o755 });
  if (packages.length > 0) await putPackages(root, packages, folder.path);
  await add(root);
  await runSuccessfully('/usr/bin/tar', ['-C', root, '-cf', archive, '.']);
  const imported = await dockerd.docker([
    'import',
    '--change',
    pathVariable,
    '--change',
    change,
    archive,
    tag,
  ]);
  if (imported.code !== 0) throw new Error(`${tag} cannot be made: ${imported.stderr}`);
}

async function putPackages(root: string, packages: readonly string[], work: string): Promise<void> {
  const list = join(work, 'files');
  const archive = join(work, 'packages.tar');
  await writeFile(list, (await filesOf(packages)).join('\n'));
  await runSuccessfully('/usr/bin/tar', ['-C', '/', '-cf', archive, '--no-recursion', '--files-from', list]);
  // Packages name files by these still.
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(join('usr', name), join(root, name));
  }
  await runSuccessfully('/usr/bin/tar', ['-C', root, '-xf', archive, '--keep-directory-symlink']);
}

/** All files of packages and of what they depend on, as they are installed; relative to the root. */
async function filesOf(packages: readonly string[]): Promise<string[]> {
  const names = await withDependencies(packages);
  const listed = (await runSuccessfully('/usr/bin/dpkg', ['-L', ...names])).split('\n');
  const made = ['/etc/passwd', '/etc/group', '/etc/nsswitch.conf'];
  const wanted = [...listed, ...made].filter((path) => /^\/[^.]/.test(path) && !unread.test(`${path}/`));
  return [...new Set(wanted)].filter((path) => isThere(path)).map((path) => path.slice(1));
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

async function withDependencies(packages: readonly string[]): Promise<string[]> {
  const format = '${Package}\t${Pre-Depends}, ${Depends}\n';
  const lines = (await runSuccessfully('/usr/bin/dpkg-query', ['-W', '-f', format])).trim().split('\n');
  const needs = new Map(
    lines.map((line) => line.split('\t')).map(([name = '', wanted = '']) => [name, wanted] as const),
  );
  const found = new Set<string>();
  const visit = (name: string): void => {
    if (found.has(name) || left.has(name)) return;
    found.add(name);
    for (const choice of (needs.get(name) ?? '').split(',')) {
      const names = choice.split('|').map((part) => part.trim().replace(/[ (:].*$/, ''));
      const installed = names.find((candidate) => needs.has(candidate));
      if (installed !== undefined) visit(installed);
    }
  };
  for (const name of packages) visit(name);
  return [...found];
}

/** The Node that this runs on, and npm with the settings of this machine, so that it reaches its registry from there too. */
async function addNode(root: string): Promise<void> {
  await copy(await realpath(join(checkout, 'node_modules/.bin/node')), join(root, 'usr/local/bin/node'));
  const program = (await runSuccessfully('/bin/sh', ['-c', 'command -v npm'], { env: ownPath })).trim();
  await copy(join(dirname(await realpath(program)), '..'), join(root, 'usr/local/lib/node_modules/npm'));
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(root, 'usr/local/bin', name));
  }
  const setting = async (name: string) =>
    (await runSuccessfully(program, ['config', 'get', name], { env: ownPath })).trim();
  await copy(await setting('userconfig'), join(root, 'root/.npmrc'));
  await copy(await setting('globalconfig'), join(root, 'usr/local/etc/npmrc'));
  for (const file of [await setting('cafile'), extraCertificates]) {
    if (file.startsWith('/')) await copy(file, join(root, file));
  }
}

/** What is not there is left out. */
async function copy(from: string, to: string): Promise<void> {
  if (!existsSync(from)) return;
  await mkdir(dirname(to), { recursive: true });
  await cp(from, to, { recursive: true, dereference: true });
}
