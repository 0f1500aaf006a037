// Makes a checkout ready to run: dependencies, build, and (with `tests`) the Debian packages that tests start.
// Runs on whatever Node is installed (18 or newer) and needs no package; everything after it runs on the Node that
// package.json pins.
//
//   node scripts/prepare.mjs            install if needed, build if needed
//   node scripts/prepare.mjs install    install if needed
//   node scripts/prepare.mjs build      build in any case
//   node scripts/prepare.mjs tests      install and build if needed, then the Debian packages
import { execFileSync, spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'node_modules', '.bin');
const buildMark = join(root, 'dist', '.built');

process.chdir(root);
const goal = process.argv[2] ?? 'run';
switch (goal) {
  case 'run':
    install();
    if (!isBuilt()) build();
    break;
  case 'install':
    install();
    break;
  case 'build':
    build();
    break;
  case 'tests':
    install();
    if (!isBuilt()) build();
    installDebianPackages();
    break;
  default:
    fail(`unknown goal ${goal}: run, install, build or tests`);
}

function install() {
  if (isInstalled()) return;
  // npm names itself here, so that the npm that was started is the one that goes on.
  const npm = process.env.npm_execpath;
  const [command, first] = npm === undefined ? ['npm', []] : [process.execPath, [npm]];
  // Not `npm ci`: npm 11's refuses a lockfile without the builds for every foreign platform, which registries that
  // mirror only some of them cannot give. What was installed is compared with the lockfile instead.
  const args = ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  run(command, [...first, ...args], 'installing dependencies');
  if (pinnedNode() === undefined) {
    fail(
      'the pinned Node was not installed: npm must be allowed to run install scripts (ignore-scripts=false)',
    );
  }
  if (!isInstalled())
    fail('what npm installed is not what package-lock.json says: does it fit package.json?');
}

/** Whether node_modules holds what package-lock.json says; the hidden lockfile is npm's own record of what it installed. */
function isInstalled() {
  const wanted = readJson('package-lock.json')?.packages;
  const found = readJson(join('node_modules', '.package-lock.json'))?.packages;
  if (wanted === undefined) fail('package-lock.json is missing or broken');
  if (found === undefined) return false;
  const packages = Object.entries(wanted).filter(([path]) => path !== '');
  const matches = packages.every(([path, { version, integrity, optional }]) =>
    found[path] === undefined
      ? optional === true
      : found[path].version === version && found[path].integrity === integrity,
  );
  return (
    matches &&
    Object.keys(found).every((path) => path in wanted) &&
    pinnedNode() === wanted['node_modules/node'].version
  );
}

function pinnedNode() {
  const { status, stdout } = spawnSync(join(bin, 'node'), ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim().replace(/^v/, '') : undefined;
}

/** Directories count too: their times tell of files that were removed. */
function isBuilt() {
  if (!existsSync(buildMark) || !existsSync(join('dist', 'main.js'))) return false;
  const built = statSync(buildMark).mtimeMs;
  const sources = ['src', 'package-lock.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json'];
  return sources.every((path) => newest(path) < built);
}

function newest(path) {
  const status = statSync(path);
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(status.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Marked with the time it began, so that a file saved meanwhile is built the next time. */
function build() {
  const began = new Date();
  rmSync(buildMark, { force: true });
  run(join(bin, 'nest'), ['build'], 'building');
  writeFileSync(buildMark, '');
  utimesSync(buildMark, began, began);
}

function installDebianPackages() {
  const missing = JSON.parse(readFileSync(join('test', 'parts', 'debian-packages.json'), 'utf8'))
    .filter(({ command }) => !isExecutable(command))
    .map((part) => part.package);
  if (missing.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    say(`some tests will be left out; to run them all: ${command}`);
    return;
  }
  say(`installing Debian packages for tests: ${missing.join(' ')}`);
  const undo = keepServicesStopped();
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    execFileSync('apt-get', ['update', '-qq'], { stdio: ['ignore', 2, 2], env });
    execFileSync('apt-get', command.split(' ').slice(1), { stdio: ['ignore', 2, 2], env });
  } catch (error) {
    say(`${error.message}; some tests will be left out`);
  } finally {
    undo();
  }
}

/** The packages' own services must not start: docker-registry's would take port 5000. Debian's policy-rc.d says so. */
function keepServicesStopped() {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return () => {};
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  return () => rmSync(policy);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function readJson(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
}

function run(command, args, title) {
  say(title);
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
  const { status, error } = spawnSync(command, args, { stdio: ['inherit', 2, 2], env });
  if (error !== undefined) fail(`${title}: ${error.message}`);
  if (status !== 0) fail(`${title} failed`);
}

function say(text) {
  process.stderr.write(`cistern: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}
