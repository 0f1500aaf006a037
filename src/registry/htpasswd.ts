import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { compare } from 'bcryptjs';
import { LRUCache } from 'lru-cache';
import { WatchedFile, type FileLog } from '../config/watched-file.js';
import type { Authentication, Login } from './authentication.js';
import { parseBasic } from './basic.js';
import { RegistryError } from './errors.js';

const rememberMs = 5 * 60_000;
/** Compared against for names that are not in the file, so that names cannot be told by the time an answer takes. */
const nobody = '$2a$10$CwTycUXWue0Thq9StjUM0uJ8rwOSZqEcq2wUUxQqqyX5kQ6P6Yr1e';

/**
 * `auth.htpasswd` of registry: bcrypt entries only, the file re-read when it changes. A right password is remembered
 * for minutes under a keyed hash, because clients send it with each request and bcrypt is slow on purpose.
 */
export class Htpasswd implements Authentication {
  readonly #key = randomBytes(32);
  readonly #remembered = new LRUCache<string, string>({ max: 10_000, ttl: rememberMs });
  readonly #checking = new Map<string, Promise<boolean>>();
  readonly #file: WatchedFile<ReadonlyMap<string, string>>;

  constructor(
    path: string,
    private readonly realm: string,
    log: FileLog,
  ) {
    this.#file = new WatchedFile(path, parseHtpasswd, log);
  }

  async login(authorization: string | undefined): Promise<Login | 'refused' | undefined> {
    const given = parseBasic(authorization);
    if (given === undefined) return authorization === undefined ? undefined : 'refused';
    const stored = (await this.#file.read()).get(given.username);
    const key = createHmac('sha256', this.#key)
      .update(`${given.username}\0${given.password}`)
      .digest('base64');
    const login: Login = { user: given.username, claims: undefined };
    const remembered = this.#remembered.get(key);
    if (stored !== undefined && remembered !== undefined && equal(remembered, stored)) return login;
    if (!(await this.#check(key, given.password, stored ?? nobody)) || stored === undefined) return 'refused';
    this.#remembered.set(key, stored);
    return login;
  }

  /** Many requests with one password are one comparison. */
  #check(key: string, password: string, hash: string): Promise<boolean> {
    const id = `${key}${hash}`;
    const running = this.#checking.get(id);
    if (running !== undefined) return running;
    const check = compare(password, hash).finally(() => this.#checking.delete(id));
    this.#checking.set(id, check);
    return check;
  }

  challenge(): RegistryError {
    const realm = this.realm.replaceAll(/["\\]/g, String.raw`\$&`);
    return new RegistryError('UNAUTHORIZED', undefined, { 'WWW-Authenticate': `Basic realm="${realm}"` });
  }
}

function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** Lines `name:hash`; registry takes bcrypt only, and so do we: other hashes never match. */
export function parseHtpasswd(text: string): ReadonlyMap<string, string> {
  const entries = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon <= 0 || line.startsWith('#')) continue;
    const hash = line.slice(colon + 1).trim();
    if (/^\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}$/.test(hash)) entries.set(line.slice(0, colon), hash);
  }
  return entries;
}
