import { WatchedFile, type FileLog } from '../config/watched-file.js';
import { CredentialsError, type Credentials, type Login } from './credentials.js';
import { dockerHubHosts } from './directory.js';
import { isObject, parseObject } from './json.js';

/**
 * Credentials by host from a file as `docker login` writes it (`config.json`) and Kubernetes mounts it
 * (`.dockerconfigjson`): `auths`, each with `auth` (Base64 of `user:password`) or `username` and `password`. Read again
 * when it changes. Its `credsStore` and `credHelpers` are programs of another machine, and not run.
 */
export class DockerConfig {
  readonly #file: WatchedFile<ReadonlyMap<string, Login>>;

  constructor(path: string, log: FileLog) {
    this.#file = new WatchedFile(path, parseDockerConfig, log);
  }

  /** What it has for the host that is really asked, whatever images call it; nobody in particular where it has nothing. */
  credentialsFor(host: string): Credentials {
    const name = credentialsHost(host);
    return { account: 'dockerconfigjson', login: async () => (await this.#file.read()).get(name) };
  }
}

/** @throws CredentialsError, which quotes nothing. */
export function parseDockerConfig(text: string): ReadonlyMap<string, Login> {
  const auths = parseObject(Buffer.from(text))?.['auths'];
  if (!isObject(auths))
    throw new CredentialsError('docker-config', 'dockerconfigjson is not JSON with auths');
  const logins = new Map<string, Login>();
  for (const [key, entry] of Object.entries(auths)) {
    const host = hostOf(key);
    const login = isObject(entry) ? loginOf(entry) : undefined;
    if (host !== undefined && login !== undefined) logins.set(host, login);
  }
  return logins;
}

/** `ghcr.io`, `https://ghcr.io`, `https://index.docker.io/v1/`. Kubernetes' keys for a part of a host are left out. */
function hostOf(key: string): string | undefined {
  const host = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/i.exec(key)?.[1];
  return host === undefined ? undefined : credentialsHost(host);
}

/** The key of a host in such a file: Docker Hub has one for all its names. */
export function credentialsHost(host: string): string {
  const name = host.toLowerCase();
  return dockerHubHosts.includes(name) ? 'docker.io' : name;
}

function loginOf({ auth, username, password }: Record<string, unknown>): Login | undefined {
  if (typeof auth === 'string' && auth !== '') {
    const text = Buffer.from(auth, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    // Docker pads some entries with zero bytes.
    const secret = text.slice(colon + 1).replace(/\0+$/, '');
    return colon > 0 && secret !== '' ? { username: text.slice(0, colon), password: secret } : undefined;
  }
  if (typeof username !== 'string' || typeof password !== 'string') return undefined;
  return username === '' || password === '' ? undefined : { username, password };
}
