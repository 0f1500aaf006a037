import { accessSync, constants, readFileSync } from 'node:fs';

type Ceph = 'ceph' | 'ceph-mon' | 'ceph-monmap' | 'ceph-osd' | 'radosgw' | 'radosgw-admin';

export type Part =
  | Ceph
  | 'docker-registry'
  | 'skopeo'
  | 'containerd'
  | 'dockerd'
  | 'docker-compose'
  | 'curl'
  | 'busybox'
  | 'faketime'
  | 'openssl'
  | 'wrk'
  | 'hey'
  | 'nginx'
  | 'go'
  | 'prometheus'
  | 'promtool'
  | 'redis-server'
  | 'script'
  | 'unshare'
  | 'root';

interface DebianPart {
  readonly part: Part;
  readonly package: string;
  readonly command: string;
}

/** Also read by scripts/prepare.mjs, which installs them. */
const parts = JSON.parse(
  readFileSync(new URL('./debian-packages.json', import.meta.url), 'utf8'),
) as readonly DebianPart[];

/** Whether a real part that tests start is here. `root`: the right to mount, which containerd and dockerd need. */
export function has(part: Part): boolean {
  if (part === 'root') return process.getuid?.() === 0;
  try {
    accessSync(commandOf(part), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** For `describe.skipIf(lacks('docker-registry', 'skopeo'))`; the closing summary says what was left out and why. */
export function lacks(...needed: readonly Part[]): boolean {
  return needed.some((part) => !has(part));
}

/** The command's absolute path, so that nothing on PATH takes its place. */
export function commandOf(part: Exclude<Part, 'root'>): string {
  const found = parts.find((candidate) => candidate.part === part);
  if (found === undefined) throw new Error(`debian-packages.json has no part ${part}`);
  return found.command;
}

/** Debian's names of the packages that are not installed. */
export function missingPackages(): string[] {
  return [...new Set(parts.filter(({ part }) => !has(part)).map((candidate) => candidate.package))];
}
