import { join } from 'node:path';
import { commandOf } from './debian.js';
import { runSuccessfully } from './process.js';

export interface CertificateFiles {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

const keyKind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

/** A certificate in a folder, made with openssl: by an issuer and for these names, or one that may be an issuer itself. */
export async function makeCertificate(
  folder: string,
  commonName: string,
  issuer?: CertificateFiles,
  names: readonly string[] = ['IP:127.0.0.1', 'DNS:*.mirror.test'],
  organisations: readonly string[] = [],
): Promise<CertificateFiles> {
  const made = {
    certificate: join(folder, `${commonName}.cert`),
    key: join(folder, `${commonName}.key`),
  };
  const by = issuer === undefined ? [] : ['-CA', issuer.certificate, '-CAkey', issuer.key];
  const leaf = ['-addext', 'basicConstraints=critical,CA:FALSE', '-addext', `subjectAltName=${names.join()}`];
  const subject = [...organisations.map((name) => `/O=${name}`), `/CN=${commonName}`];
  await runSuccessfully(commandOf('openssl'), [
    'req',
    '-x509',
    ...keyKind,
    ...(issuer === undefined ? [] : leaf),
    ...by,
    '-subj',
    subject.join(''),
    '-keyout',
    made.key,
    '-out',
    made.certificate,
  ]);
  return made;
}
