import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from '../parts/debian.js';
import { runSuccessfully } from '../parts/process.js';

/** Paths of PEM files. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

const kind = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'.split(' ');

/** A certificate for loopback that is its own authority. */
export async function writePair(folder: string, name: string): Promise<Pair> {
  const pair = { certificate: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
  const about = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  await runSuccessfully(commandOf('openssl'), [
    ...kind,
    ...about,
    '-keyout',
    pair.key,
    '-out',
    pair.certificate,
  ]);
  return pair;
}

/** In the place of others, as those who renew certificates do: one file, then the other. */
export async function putInPlace(from: Pair, to: Pair): Promise<void> {
  await rename(from.certificate, to.certificate);
  await rename(from.key, to.key);
}
