import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Seal } from '../../src/cluster/peers/seal.js';
import { Keys } from '../../src/cluster/redis/keys.js';
import { type SealedKind, SealedValues } from '../../src/cluster/redis/sealed-values.js';

/** The id and the secret that the replicas over this storage root share. */
export async function identityOf(root: string): Promise<Readonly<Record<'id' | 'secret', string>>> {
  const text = await readFile(join(root, 'cistern', 'cluster.json'), 'utf8');
  return JSON.parse(text) as Record<'id' | 'secret', string>;
}

/** Redis values of a cluster with these secrets, the newest first. */
export function valuesSealedBy(
  secrets: readonly string[],
  refused: (kind: SealedKind) => void = () => undefined,
): SealedValues {
  const seals = secrets.map((secret) => new Seal(secret));
  return new SealedValues(() => seals, refused);
}

/** Names and opens the Redis values of the replicas over this storage root. */
export async function redisValuesOf(root: string): Promise<{ keys: Keys; values: SealedValues }> {
  const { id, secret } = await identityOf(root);
  return { keys: new Keys(id), values: valuesSealedBy([secret]) };
}
