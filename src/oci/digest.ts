import { createHash, type Hash } from 'node:crypto';

/**
 * A content digest in the one form that this program uses as a key and as part of a path:
 * `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>` (OCI image-spec, "Digests").
 * Made by {@link parseDigest} and {@link digestOf} only.
 */
export type Digest = string & { readonly __brand: 'Digest' };
export type DigestAlgorithm = 'sha256' | 'sha512';

const grammar = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;

/** `undefined` where the text is not a digest that can be verified here. */
export function parseDigest(text: string): Digest | undefined {
  return grammar.test(text) ? (text as Digest) : undefined;
}

export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(':')) as DigestAlgorithm;
}

export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** An incremental hash of the digest's own algorithm. */
export function hashFor(digest: Digest): Hash {
  return createHash(algorithmOf(digest));
}

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}
