import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Builds Helm for the chart's tests, from its source: Debian has no package of it. Run before the tests, by npm. */

/** The newest that the Go of Debian 12 can build. */
const version = 'v3.13.3';
const folder = fileURLToPath(new URL(`../node_modules/.cache/helm-${version}`, import.meta.url));
const command = `${folder}/helm`;

/** Its path, where it was built. */
export function helmCommand(): string | undefined {
  return isExecutable(command) ? command : undefined;
}

/** Once: a minute or two. Where Go or Helm's source cannot be had, that is said, and the tests leave the chart out. */
function build(): void {
  const parts = JSON.parse(
    readFileSync(new URL('../test/parts/debian-packages.json', import.meta.url), 'utf8'),
  ) as { part: string; package: string; command: string }[];
  const go = parts.find(({ part }) => part === 'go');
  if (go === undefined || !isExecutable(go.command)) {
    say(`the chart's tests are left out; to run them: apt-get install ${go?.package ?? 'golang-go'}`);
    return;
  }
  say(`building helm ${version}`);
  mkdirSync(folder, { recursive: true });
  const args = ['install', '-trimpath', '-ldflags=-s -w', `helm.sh/helm/v3/cmd/helm@${version}`];
  const env = { ...process.env, GOBIN: folder, CGO_ENABLED: '0' };
  const { status, stderr } = spawnSync(go.command, args, { env, encoding: 'utf8' });
  if (status !== 0) say(`helm cannot be built, the chart's tests are left out: ${stderr.trim().slice(-500)}`);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function say(text: string): void {
  process.stderr.write(`cistern: ${text}\n`);
}

if (import.meta.main && helmCommand() === undefined) build();
