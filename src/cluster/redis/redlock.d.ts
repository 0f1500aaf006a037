/** The parts of redlock 5 that are used here: its package does not expose its own types to ES modules. */
declare module 'redlock' {
  import type { Redis } from 'ioredis';

  export class ResourceLockedError extends Error {}
  export class ExecutionError extends Error {
    readonly attempts: readonly Promise<{ readonly votesAgainst: ReadonlyMap<Redis, Error> }>[];
  }
  export interface Lock {
    /** What the key holds: the holder's own. */
    readonly value: string;
    /** Milliseconds of `Date.now()`; beyond it redlock does not ask. */
    expiration: number;
    extend(milliseconds: number): Promise<Lock>;
  }
  export default class Redlock {
    constructor(
      clients: Iterable<Redis>,
      settings: { retryCount: number; driftFactor: number; automaticExtensionThreshold: number },
    );
    acquire(resources: string[], milliseconds: number): Promise<Lock>;
    on(event: 'error', listener: (error: Error) => void): this;
  }
}
