import type { InUseSource } from '../usage/in-use.js';

/** Told by a source of what runs. */
export interface Observer {
  /**
   * All that runs, in the words of the store (imageText), as the keys of a map that may change until this is called
   * again. `whole`: none of it is still to be asked for.
   */
  seen(images: ReadonlyMap<string, unknown>, whole: boolean): void;
  /** What was told last is as it is now. */
  heard(): void;
}

/** Somebody who knows what runs. Its own trouble it says in the log, once for each time; it goes on by itself. */
export interface ImageSource {
  readonly kind: InUseSource;
  /** Whose images they are, for all replicas that can ask; `undefined`: nobody can be asked from here now. */
  identify(signal: AbortSignal): Promise<string | undefined>;
  /** Resolves when the signal is aborted, or when they can be asked for from here no longer. */
  observe(id: string, observer: Observer, signal: AbortSignal): Promise<void>;
  /** Of the nodes that images run on, such as `linux/amd64`; none where nobody says. */
  platforms(signal: AbortSignal): Promise<readonly string[]>;
}
