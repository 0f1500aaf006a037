import type { Redis } from 'ioredis';
import type { Seal } from '../peers/seal.js';

/** Bytes of a value; replicas write shorter ones. */
export const longestValue = 2_048;

/** A value under a key, or `null`. Of a longer one only the beginning, which has no proof, is sent. */
export async function readValue(client: Redis, key: string): Promise<string | null> {
  const text = await client.getrange(key, 0, longestValue);
  return text === '' ? null : text;
}

/** The part of a value's key that follows the cluster's id. */
export type SealedKind = 'descriptor' | 'tag' | 'leader' | 'spools' | 'done';

/** A value has at most two proofs: of the newest secret and of the previous one. */
const mostProofs = 2;

/**
 * Values in Redis that only a replica of this cluster can write. Each ends with a proof of the cluster's secret for the
 * key under which it is stored. A value without a proof, or with the proof of another key, counts as absent.
 */
export class SealedValues {
  constructor(
    /** The seal of the newest secret first; after a change of the secret, also that of the previous one. */
    private readonly seals: () => readonly Seal[],
    /** Called for each value whose proofs are wrong. */
    private readonly refused: (kind: SealedKind, key: string) => void,
  ) {}

  /**
   * `<text> <proofs>`: a line that an operator can read. It has a proof of each valid secret, joined by commas, so a
   * replica that does not have the newest secret yet accepts the value too.
   */
  seal(key: string, text: string): string {
    const proofs = this.seals().map((seal) => seal.value(key, text));
    if (proofs.length === 0) throw new TypeError('the cluster has no secret');
    return `${text} ${proofs.join(',')}`;
  }

  /** The text of a sealed value; `undefined` if there is no value, or if none of its proofs is valid. */
  open(kind: SealedKind, key: string, value: string | null | undefined): string | undefined {
    if (value === null || value === undefined) return undefined;
    const end = value.lastIndexOf(' ');
    const text = value.slice(0, Math.max(end, 0));
    const proofs = value.slice(end + 1).split(',', mostProofs);
    if (this.seals().some((seal) => proofs.some((proof) => seal.isValue(key, text, proof)))) return text;
    this.refused(kind, key);
    return undefined;
  }
}
