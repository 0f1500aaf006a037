import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { ByteRange, RequestedRange } from '../oci/range.js';

/**
 * The contract of storage. `undefined` and `false` mean absent; trouble (no permission, input/output errors, a
 * full disk) is thrown as {@link StorageError}. Repositories here are names in the store's own tree: the default
 * upstream's without a prefix, the others' under their host (see upstream/directory.ts).
 */
export interface BlobStore {
  /** The size in bytes, without opening. */
  stat(digest: Digest): Promise<number | undefined>;
  /** Opens a blob, or a range of it: after this, headers may be sent. The caller closes it. Throws RangeUnsatisfiable. */
  open(digest: Digest, range?: RequestedRange): Promise<OpenBlob | undefined>;
  /**
   * A whole blob of at most `limit` bytes, in as few calls as the store can; larger ones are refused with StorageError.
   * Throws what `admit` throws.
   */
  read(digest: Digest, limit: number, admit?: Admit): Promise<Buffer | undefined>;
  /**
   * Takes a verified file in, by moving it where that is possible. It is visible under its digest either whole or
   * not at all; descriptors that are open on the file stay valid. Content of the same size that is already there is
   * renewed if it can be opened; if not, the file replaces it.
   */
  take(file: VerifiedFile): Promise<void>;
  /** Verifies a small blob (a manifest) against its digest and stores it, whole or not at all. */
  put(digest: Digest, bytes: Uint8Array): Promise<void>;
  /**
   * Gives stored content a new modification time by the storage's own clock, so that a deletion that begins later leaves
   * it. A replica does this before it writes a link to the content. Returns the size in bytes; `undefined`: absent.
   */
  renew(digest: Digest): Promise<number | undefined>;
}

/** Called with the size before so many bytes are read as a whole. */
export type Admit = (bytes: number) => Promise<void>;

/** A blob that is open for reading. */
export interface OpenBlob {
  /** Of the whole blob, in bytes. */
  readonly size: number;
  /** What `body` gives; `undefined`: all of it. */
  readonly range: ByteRange | undefined;
  /**
   * The bytes in order, read as they are asked for; once. A chunk is the reader's until it asks for the next, then
   * its memory is used again. Reading may stop at any time.
   */
  readonly body: AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** Which repository has seen what: registry's link files (distribution, registry/storage/paths.go). */
export interface RepositoryStore {
  hasLayer(repository: Repository, digest: Digest): Promise<boolean>;
  linkLayer(repository: Repository, digest: Digest): Promise<void>;
  hasManifest(repository: Repository, digest: Digest): Promise<boolean>;
  linkManifest(repository: Repository, digest: Digest): Promise<void>;
  readTag(repository: Repository, tag: Tag): Promise<Digest | undefined>;
  /** Index entry first, then `current`. */
  writeTag(repository: Repository, tag: Tag, digest: Digest): Promise<void>;
  /** Sorted; empty where the repository is not known. */
  listTags(repository: Repository): Promise<Tag[]>;
  /**
   * Repositories that hold at least one manifest, sorted, those after `after`, in pages. Callers that ask for the same at
   * the same time share the reading, which ends when the last of them leaves. `enough`: how many names the caller wants.
   */
  listRepositories(
    after: string | undefined,
    enough: number,
    signal: AbortSignal,
  ): AsyncIterable<readonly Repository[]>;
}

/** In bytes. */
export const longestRecord = 64 * 1024 * 1024;

/** Small records of Cistern's own, under `cistern/`: never content. Keys are paths of safe components. */
export interface RecordStore {
  /** A record of at most `limit` bytes (default: 64 MiB); a larger one is refused. Throws StorageError, and as `admit`. */
  readRecord(key: string, limit?: number, admit?: Admit): Promise<Buffer | undefined>;
  /** Replaces atomically. */
  writeRecord(key: string, bytes: Uint8Array): Promise<void>;
  /** Creates it unless it is there, and returns what is there afterwards: of many that create at once, one wins. */
  createRecord(key: string, bytes: Uint8Array): Promise<Buffer>;
  /** Moves a file that registry left at the store's root to this key. `false` where there is none. */
  adopt(fileAtRoot: string, key: string): Promise<boolean>;
  /** Keys that begin with this path, which ends in a slash, sorted. Those being written may be missing. */
  listRecords(below: string): Promise<string[]>;
  /** Also where there is none. */
  removeRecord(key: string): Promise<void>;
}

/**
 * All that is stored, for jobs that look through it: in pages of at most a few thousand, so that memory is bounded.
 * What appears or goes meanwhile may or may not be seen. With `skip` a listing goes on past a part that the storage does
 * not give; without it, it throws StorageError.
 */
export interface Inventory {
  /** By algorithm and hexadecimal digits, those after `after`. */
  listBlobs(
    after: Digest | undefined,
    signal: AbortSignal,
    skip?: SkipUnlisted,
  ): AsyncIterable<readonly StoredBlob[]>;
  /** Every repository's layers, manifests and tags. */
  listLinks(signal: AbortSignal, skip?: SkipUnlisted): AsyncIterable<readonly StoredLink[]>;
  /** The time of the storage's own clock, in milliseconds since 1970: what `StoredBlob.modifiedMs` is compared with. */
  now(): Promise<number>;
}

/** A part of a listing that the storage does not give. */
export interface Unlisted {
  /** Below the store's root. */
  readonly path: string;
  readonly error: StorageError;
  /** What is missing is in this repository; `undefined`: it may be in any. */
  readonly repository?: Repository;
  /** Only tags are missing. */
  readonly onlyTags?: true;
}

/** Takes note of it. Throws where the listing is to end. */
export type SkipUnlisted = (part: Unlisted) => Promise<void>;

export interface StoredBlob {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  /**
   * By the storage's clock, in milliseconds since 1970: when it was written, which may be before it became visible (a
   * file is moved to its place; S3 counts from the beginning of an upload in parts).
   */
  readonly modifiedMs: number;
}

export type StoredLink =
  | { readonly kind: 'layer' | 'manifest'; readonly repository: Repository; readonly digest: Digest }
  | { readonly kind: 'tag'; readonly repository: Repository; readonly tag: Tag; readonly digest: Digest };

/** Deletes content (rule 8 says when). Absent content is no error. */
export interface Deletes {
  /**
   * Deletes content that was last written or renewed at this time at the latest, in milliseconds since 1970 by the
   * storage's own clock. `false`: it was written since, and stays. One attempt, which is over after `deletionMs`. A
   * reader in this process or on a local disk that has the content open reads on.
   */
  deleteBlob(digest: Digest, writtenBy: number): Promise<boolean>;
  /**
   * The same for content that does not match its digest. Where clients may hold presigned addresses of it, the object
   * stays for them, but no look finds it, and the next transfer replaces it.
   */
  condemnBlob(digest: Digest, writtenBy: number): Promise<boolean>;
  unlinkLayer(repository: Repository, digest: Digest): Promise<void>;
  unlinkManifest(repository: Repository, digest: Digest): Promise<void>;
  /** The tag with its history. */
  deleteTag(repository: Repository, tag: Tag): Promise<void>;
}

/**
 * What a BlobStore may be able to do besides, asked by the guards below.
 */

/** Takes a blob in while it is still arriving, so that little is left to do when it is verified. */
export interface UploadsEarly {
  /** Makes no request by itself. `path` is the growing file; it stays until `complete` or `abort` settles. */
  begin(digest: Digest, path: string): EarlyUpload;
}

/** Nothing of it is visible before `complete`, which or `abort` must follow. */
export interface EarlyUpload {
  /** So many bytes of the file are final now. Returns at once and never throws: trouble shows in `complete`. */
  grown(length: number, size: number | undefined): void;
  /** As {@link BlobStore.take}, with what is uploaded already; starts over where that was in trouble. */
  complete(file: VerifiedFile): Promise<void>;
  /** Nothing remains. Never throws: what cannot be removed now is swept later. After `complete` it does nothing. */
  abort(): Promise<void>;
}

/** Lets clients fetch a blob from the storage itself. */
export interface Presigns {
  /**
   * An address of the blob for anybody who has it, good for some minutes at least, made after a look at the object
   * and reused as long as it is good. `undefined` where the blob is absent.
   */
  presign(digest: Digest): Promise<Presigned | undefined>;
  /** One that `presign` has given before and would give again, without input or output. */
  recallPresigned(digest: Digest): Presigned | undefined;
  /** No address that was given out is good for longer than this after its making, in milliseconds. */
  readonly lifetimeMs: number;
}

export interface Presigned {
  /** A credential: never for a log. */
  readonly url: string;
  /** Of the object that was looked at, in bytes. */
  readonly size: number;
}

/** Finds and removes what uploads that never ended have left. */
export interface Sweeps {
  /** Those begun longer ago than this; returns how many they were. */
  sweepUploads(olderThanMs: number): Promise<number>;
}

export function uploadsEarly(store: BlobStore): store is BlobStore & UploadsEarly {
  return 'begin' in store;
}

export function presigns(store: BlobStore): store is BlobStore & Presigns {
  return 'presign' in store;
}

export function sweeps(store: BlobStore): store is BlobStore & Sweeps {
  return 'sweepUploads' in store;
}

/** A file whose whole content was hashed and found to be what its digest and size say. Made by spool.ts only. */
export interface VerifiedFile {
  readonly path: string;
  readonly digest: Digest;
  readonly size: number;
  readonly __verified: true;
}

/** Told of each access to the driver: registry's name for it, and when it started (`performance.now()`). */
export type ObserveAction = (
  action: 'Stat' | 'Reader' | 'Writer' | 'GetContent' | 'PutContent' | 'Move' | 'List' | 'Delete' | 'URLFor',
  started: number,
) => void;

export type StorageCode = 'io' | 'silent' | 'full' | 'busy' | 'denied' | 'too-large';

export class StorageError extends Error {
  override readonly name = 'StorageError';
  constructor(
    readonly code: StorageCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Content that is not what its digest or its declared size says. It was not stored. */
export class DigestMismatch extends Error {
  override readonly name = 'DigestMismatch';
  constructor(
    readonly expected: Digest,
    readonly found: string,
    readonly expectedSize: number | undefined,
    readonly foundSize: number,
  ) {
    super(
      `content does not match its digest: expected ${expected}` +
        `${expectedSize === undefined ? '' : ` (${expectedSize} bytes)`}, found ${found} (${foundSize} bytes)`,
    );
  }
}

/** A storage refuses a deletion that arrives later than this after the look that led to it, in milliseconds. */
export const deletionMs = 10_000;
/** A deletion has happened, or never will, this long after it began, also inside a slow storage. In milliseconds. */
export const deletionSettledMs = 3 * deletionMs;

/** All that a storage keeps. */
export interface Stores {
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  readonly records: RecordStore;
  readonly inventory: Inventory;
  readonly deletes: Deletes;
  /** Throws where it cannot be used. */
  probe(): Promise<void>;
  close(): void;
}
