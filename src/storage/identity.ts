import { randomBytes, randomUUID } from 'node:crypto';
import type { RecordStore } from './storage.js';

const key = 'cluster.json';

/** What all replicas on one store have in common; made once, by whoever starts first. */
export interface Identity {
  readonly id: string;
  /** Proves one replica to another; never leaves the store and the replicas. */
  readonly secret: string;
  /** Which registry the repositories without a prefix belong to. */
  readonly host: string;
}

/** The unprefixed tree holds another registry's repositories: serving them under a new name would mix the two. */
export class IdentityConflict extends Error {
  override readonly name = 'IdentityConflict';
  constructor(
    readonly stored: string,
    readonly configured: string,
  ) {
    super(
      `proxy.host: got ${configured}; wanted ${stored}, whose repositories the store holds without a prefix ` +
        '(to change it, start with an empty store)',
    );
  }
}

/** Throws {@link IdentityConflict}, StorageError, and SyntaxError for a record that somebody else wrote. */
export async function establishIdentity(records: RecordStore, host: string): Promise<Identity> {
  const proposal: Identity = { id: randomUUID(), secret: randomBytes(32).toString('base64url'), host };
  const bytes =
    (await records.readRecord(key)) ??
    (await records.createRecord(key, Buffer.from(`${JSON.stringify(proposal, undefined, 2)}\n`)));
  const identity = parse(bytes);
  if (identity.host !== host) throw new IdentityConflict(identity.host, host);
  return identity;
}

/** `undefined`: no mirror has run on this store yet. Throws StorageError, and SyntaxError as above. */
export async function readIdentity(records: RecordStore): Promise<Identity | undefined> {
  const bytes = await records.readRecord(key);
  return bytes && parse(bytes);
}

function parse(bytes: Buffer): Identity {
  return JSON.parse(bytes.toString('utf8')) as Identity;
}
