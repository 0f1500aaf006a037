import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config/config.js';
import { ConfigError } from '../config/faults.js';
import { parseListen } from '../config/listen.js';
import { loadConfig, type LoadedConfig, type LoadOptions } from '../config/load.js';
import { localSpools } from '../storage/layout.js';

/** The image sets it: whoever starts a container as root does so by default rather than on purpose. */
const variable = 'CISTERN_LEAVE_ROOT';
const portsFile = '/proc/sys/net/ipv4/ip_unprivileged_port_start';

/** What is needed of `process`. */
export interface ProcessUser {
  geteuid?(): number;
  getgroups?(): number[];
  setgroups?(groups: readonly number[]): void;
  setegid?(id: number): void;
  seteuid?(id: number): void;
  setgid?(id: number): void;
  setuid?(id: number): void;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface LoadedAs extends LoadedConfig {
  /** Whom it became; `undefined`: it is who it was. */
  readonly became: Owner | undefined;
  /** Why it is root still, where it might have been somebody else. */
  readonly rootBecause: string | undefined;
}

/**
 * Reads the configuration; and where `CISTERN_LEAVE_ROOT` is set and this process is root, it goes on as the owner of
 * the folders that it writes to, before anything is opened. It stays root where they belong to root (a volume that
 * registry left) or where the owner could not do all that is configured: read a file, take a port. Nobody's files are
 * given to somebody else. Throws ConfigError.
 */
export function loadAsOwner(options: LoadOptions, user: ProcessUser = process): LoadedAs {
  const loaded = loadConfig(options);
  const stay = (rootBecause?: string): LoadedAs => ({ ...loaded, became: undefined, rootBecause });
  if (!options.env[variable] || user.geteuid?.() !== 0) return stay();
  const folders = foldersOf(loaded.config);
  const [owner, ...others] = folders.map((folder) => ownerOf(folder));
  if (owner === undefined || owner.uid === 0) return stay(`${folders[0]} belongs to root`);
  if (others.some(({ uid }) => uid !== owner.uid))
    return stay(`${folders.join(' and ')} have several owners`);
  const port = portsOf(loaded.config).find((wanted) => wanted < firstFreePort());
  if (port !== undefined) return stay(`port ${port} is for root alone`);
  const obstacle = tryAs(owner, options, user);
  if (obstacle !== undefined) return stay(obstacle);
  user.setgroups?.([owner.gid]);
  user.setgid?.(owner.gid);
  user.setuid?.(owner.uid);
  return { ...loaded, became: owner, rootBecause: undefined };
}

/** Reads the configuration as somebody else, files that it names included; root again afterwards. Says what is in the way. */
function tryAs(owner: Owner, options: LoadOptions, user: ProcessUser): string | undefined {
  const groups = user.getgroups?.() ?? [];
  try {
    user.setgroups?.([owner.gid]);
    user.setegid?.(owner.gid);
    user.seteuid?.(owner.uid);
    loadConfig(options);
    return undefined;
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map(({ key, got }) => `${key}: ${got}`).join('; ');
    if (isForbidden(error)) return 'it may not change its user'; // a container with `cap_drop`
    throw error;
  } finally {
    beRootAgain(groups, user);
  }
}

function beRootAgain(groups: readonly number[], user: ProcessUser): void {
  if (user.geteuid?.() !== 0) user.seteuid?.(0);
  try {
    user.setegid?.(0);
    user.setgroups?.(groups);
  } catch (error) {
    if (!isForbidden(error)) throw error; // what cannot be changed was not changed
  }
}

function isForbidden(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EPERM';
}

/** All that it makes files in. */
function foldersOf({ storage, proxy, http }: Config): string[] {
  const spool = proxy.spool.directory;
  return [
    ...(storage.driver === 'filesystem' ? [storage.filesystem.rootdirectory] : [spool ?? localSpools]),
    ...(storage.driver === 'filesystem' && spool !== undefined ? [spool] : []),
    ...(http.net === 'unix' ? [dirname(http.addr)] : []),
  ];
}

/** Of the folder, or of the one in which it would be made. */
function ownerOf(folder: string): Owner {
  try {
    const { uid, gid } = statSync(folder);
    return { uid, gid };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    return ownerOf(dirname(folder));
  }
}

function portsOf({ http, cluster, redis }: Config): number[] {
  const addresses = [
    ...(http.net === 'tcp' ? [http.addr] : []),
    ...(http.debug === undefined ? [] : [http.debug.addr]),
    ...(redis === undefined ? [] : [cluster.addr]),
  ];
  return addresses.map((address) => parseListen(address)?.port ?? 0).filter((port) => port !== 0);
}

function firstFreePort(): number {
  return Number(readFileSync(portsFile, 'utf8'));
}
