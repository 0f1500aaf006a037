import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from './debian.js';
import { runSuccessfully } from './process.js';

export interface CertificateFiles {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

/** As a TLS server takes it, PEM. */
export interface PemPair {
  readonly cert: string;
  readonly key: string;
}

const ellipticKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];

const loopback = ['IP:127.0.0.1'];

/** A certificate in a folder, made with openssl: by an issuer and for these names, or one that may be an issuer itself. */
export function makeCertificate(
  folder: string,
  commonName: string,
  issuer?: CertificateFiles,
  names: readonly string[] = [...loopback, 'DNS:*.mirror.test'],
  organisations: readonly string[] = [],
): Promise<CertificateFiles> {
  const subject = [...organisations.map((name) => `/O=${name}`), `/CN=${commonName}`].join('');
  if (issuer === undefined) return request(folder, commonName, subject, []);
  const by = ['-CA', issuer.certificate, '-CAkey', issuer.key];
  return request(folder, commonName, subject, [
    ...by,
    '-addext',
    'basicConstraints=critical,CA:FALSE',
    ...san(names),
  ]);
}

/** A certificate with these extensions (as for openssl's `-addext`). It is an authority unless they say otherwise. */
export function makeCertificateWith(
  folder: string,
  commonName: string,
  extensions: readonly string[],
  issuer?: CertificateFiles,
  kind: readonly string[] = ellipticKey,
): Promise<CertificateFiles> {
  const by = issuer === undefined ? [] : ['-CA', issuer.certificate, '-CAkey', issuer.key];
  const added = extensions.flatMap((extension) => ['-addext', extension]);
  return request(folder, commonName, `/CN=${commonName}`, [...by, ...added], kind);
}

/** A certificate for these names that is its own authority. */
export function makeOwnCertificate(
  folder: string,
  commonName: string,
  names: readonly string[] = loopback,
): Promise<CertificateFiles> {
  return request(folder, commonName, `/CN=${commonName}`, san(names));
}

function san(names: readonly string[]): string[] {
  return ['-addext', `subjectAltName=${names.join()}`];
}

async function request(
  folder: string,
  title: string,
  subject: string,
  extensions: readonly string[],
  kind: readonly string[] = ellipticKey,
): Promise<CertificateFiles> {
  const made = { certificate: join(folder, `${title}.cert`), key: join(folder, `${title}.key`) };
  const files = ['-keyout', made.key, '-out', made.certificate];
  await runSuccessfully(commandOf('openssl'), [
    'req',
    '-x509',
    ...kind,
    '-nodes',
    '-days',
    '2',
    ...extensions,
    '-subj',
    subject,
    ...files,
  ]);
  return made;
}

/** In the place of others, as those who renew certificates do: one file, then the other. */
export async function putInPlace(from: CertificateFiles, to: CertificateFiles): Promise<void> {
  await rename(from.certificate, to.certificate);
  await rename(from.key, to.key);
}

export async function readPemPair({ certificate, key }: CertificateFiles): Promise<PemPair> {
  return { cert: await readFile(certificate, 'utf8'), key: await readFile(key, 'utf8') };
}
