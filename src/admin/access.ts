import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readIdentity } from '../storage/identity.js';
import type { RecordStore } from '../storage/storage.js';

/** Who may administer is who can read the storage: the secret in it proves that, and is itself never sent. */
export interface AdminKey {
  /** For `Authorization: Bearer …`. */
  readonly token: string;
  /** Where a mirror without a debug port listens, on the machine that it runs on. */
  socketFor(address: string): string;
}

/** `undefined`: no mirror has run on this store yet. Throws StorageError. */
export async function readAdminKey(records: RecordStore): Promise<AdminKey | undefined> {
  const identity = await readIdentity(records);
  return identity && adminKey(identity.secret);
}

export function adminKey(secret: string): AdminKey {
  const derive = (purpose: string): string =>
    createHmac('sha256', secret).update(`cistern ${purpose}`).digest('base64url');
  return {
    token: derive('admin api'),
    socketFor: (address) => join(tmpdir(), `cistern-${derive(`admin socket ${address}`).slice(0, 22)}.sock`),
  };
}

/** Says who may use the admin API. */
export class AdminAccess {
  #key: AdminKey | undefined;

  constructor(private readonly records: RecordStore) {}

  /** The storage may be away when the mirror starts, so it is read when it is needed. Throws StorageError. */
  async key(): Promise<AdminKey | undefined> {
    this.#key ??= await readAdminKey(this.records);
    return this.#key;
  }

  /** Whether the header `Authorization` carries the token. Throws StorageError. */
  async admits(authorization: string | undefined): Promise<boolean> {
    const [, given] = /^Bearer +([\w.~+/=-]+)$/i.exec(authorization ?? '') ?? [];
    if (given === undefined) return false;
    const key = await this.key();
    return key !== undefined && equal(given, key.token);
  }
}

/** In the same time whatever was given. */
function equal(given: string, wanted: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}
