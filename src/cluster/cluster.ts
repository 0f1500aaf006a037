import type { Descriptor } from '../oci/descriptor.js';
import type { BudgetLedger } from '../upstream/rate-budget.js';
import type { Seal } from './peers/seal.js';

/**
 * The contract of what replicas share beside the storage. Locks and caches save work; correctness never rests on
 * them. No method throws because Redis is away: each has a small time budget, and an answer for that case.
 */

/** Who may do a piece of work that is worth doing once in the whole cluster. */
export interface Coordinator {
  /** Leads, or `undefined`: another replica does. When nobody can be asked this process leads for itself. */
  tryLead(key: string): Promise<Lease | undefined>;
  /** Where the holder of the key's lease can be reached, once it has published that. */
  leader(key: string): Promise<PeerRecord | undefined>;
  /** Every replica that has a live spool for this key, the fullest first. */
  spools(key: string): Promise<readonly SpoolRecord[]>;
  /** Tells the others, until it is withdrawn or forgotten, that this process has a spool of so many bytes. */
  announceSpool(key: string, record: SpoolRecord): void;
  withdrawSpool(key: string, record: PeerRecord): void;
  /** What became of the key's work, as far as that is known: being done, done by somebody, or neither. */
  state(key: string): Promise<WorkState>;
}

export type WorkState = 'led' | 'done' | 'free' | 'unknown';

export interface PeerRecord {
  /** An origin on the cluster port: `http://10.0.1.7:5002`. */
  readonly url: string;
  /** Unguessable; names one transfer of one process. */
  readonly attempt: string;
}

export interface SpoolRecord extends PeerRecord {
  /** Bytes in it when it was announced. */
  readonly length: number;
}

/** The right to do a key's work, while it is extended. Release it once, whatever happened. */
export interface Lease {
  /** `process`: nobody could be asked, so others may be doing the same. */
  readonly scope: 'cluster' | 'process';
  /** Whether it may have lapsed unnoticed: the process slept, or nobody could be asked for long. */
  readonly doubtful: boolean;
  /** `false`: another replica holds it. Asks once when it is doubtful, and takes it again when it has lapsed. */
  confirm(): Promise<boolean>;
  publish(record: PeerRecord): Promise<void>;
  /** `done`: the work is finished and its result can be found in the storage. */
  release(done: boolean): Promise<void>;
}

/** Descriptors of content that is stored and linked in a repository, by `repository@digest`. */
export interface DescriptorCache {
  get(key: string): Promise<Descriptor | undefined>;
  /** Never awaited by whoever answers a client. */
  put(key: string, descriptor: Descriptor): void;
  drop(key: string): void;
  /** Lets the other replicas know of many, without keeping them here; a few thousand at the most. */
  share(entries: readonly (readonly [key: string, descriptor: Descriptor])[]): Promise<void>;
}

/** One with a memory of its own in front. */
export interface NearDescriptorCache extends DescriptorCache {
  /** What this process knows by itself, for those who cannot wait. */
  peek(key: string): Descriptor | undefined;
}

/** Where tags point and how long ago an upstream said so, by `repository:tag`. */
export interface TagCache {
  get(key: string): Promise<SharedTag | undefined>;
  /** The shared clock, for {@link put}: before the upstream is asked. `undefined`: there is none now. */
  now(): Promise<string | undefined>;
  /** Stores what an upstream said when it was asked at `began`. `false`: somebody asked later, and that stays. */
  put(key: string, descriptor: Descriptor, began: string): Promise<boolean>;
  drop(key: string): void;
}

export interface SharedTag {
  readonly descriptor: Descriptor;
  /** Milliseconds since the upstream was asked, by the shared clock. */
  readonly ageMs: number;
}

/** What this replica shares with the others. Its parts may be replaced once, when it comes to know them. */
export interface Cluster {
  readonly coordinator: Coordinator;
  readonly descriptors: NearDescriptorCache;
  readonly tags: TagCache;
  /** Upstreams' pull limits. */
  readonly budgets: BudgetLedger;
  /** `undefined`: there are no others. */
  readonly peers: Peers | undefined;
  /**
   * For how many milliseconds Redis has kept what it was told, at least. `undefined`: it cannot be asked, so nobody
   * knows who does what; infinite where there is none, and this process knows all.
   */
  memoryMs(): Promise<number | undefined>;
}

/** What tells one mirror's storage from another's, and what only those who can read it know. */
export interface StorageIdentity {
  readonly id: string;
  readonly secret: string;
}

/** A cluster from the side of whoever starts the process. */
export interface JoiningCluster extends Cluster {
  /** The identity comes from the storage, which may be away when the process starts. */
  join(identity: StorageIdentity): void;
  close(): void;
}

export interface Peers {
  /** What replicas prove themselves by, the newest first: more than one for a while after the secret has changed. */
  readonly seals: () => readonly Seal[];
  /** Where the others reach this one; `undefined`: not known, so it does not lead them. */
  readonly url: () => string | undefined;
}
