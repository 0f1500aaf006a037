import type { Digest } from './digest.js';

/** What identifies content: OCI image-spec "descriptor", without its annotations. `size` in bytes. */
export interface Descriptor {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
}
