import { readAdminKey, type AdminKey } from '../admin/access.js';
import type { Administration } from '../admin/admin.js';
import { RemoteAdministration, type AdminAddress } from '../admin/remote.js';
import type { Config } from '../config/config.js';
import { parseListen } from '../config/listen.js';
import type { Logger } from '../telemetry/log.js';
import { openRecords, openMirror } from './offline.js';

export interface Connected extends AsyncDisposable {
  readonly administration: Administration;
}

/**
 * The mirror of this configuration that runs on this machine, else this process in its place. Throws AdminError where
 * something else answers, StorageError, IdentityConflict.
 */
export async function connect(config: Config, log: Logger, signal: AbortSignal): Promise<Connected> {
  const key = await adminKeyOf(config, log);
  const address = key && addressOf(config, key);
  if (key !== undefined && address !== undefined) {
    const administration = new RemoteAdministration(address, key.token);
    if (await administration.reachable(signal)) {
      return { administration, [Symbol.asyncDispose]: () => Promise.resolve() };
    }
  }
  return openMirror(config, log, signal);
}

/** `undefined`: no mirror has run on this storage yet. Throws StorageError. */
export async function adminKeyOf(config: Config, log: Logger): Promise<AdminKey | undefined> {
  await using opened = await openRecords(config, log);
  return readAdminKey(opened.records);
}

const everywhere: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

/** Where a mirror that runs with this configuration listens for administrators, seen from its own machine. */
export function addressOf({ http }: Config, key: AdminKey): AdminAddress | undefined {
  if (http.debug === undefined) return { socketPath: key.socketFor(http.addr) };
  const listened = parseListen(http.debug.addr);
  if (listened === undefined) return undefined;
  const { host, port } = listened;
  return { host: host === undefined || everywhere.has(host) ? '127.0.0.1' : host, port };
}
