import type { KeyObject, X509Certificate } from 'node:crypto';

const longestChain = 8;

/**
 * The key of the first of these certificates, if each is issued by the next and the last by one of the roots, or is
 * one of them (RFC 5280 §6, without policies and revocation). `undefined` where it is not to be trusted.
 */
export function chainedKey(
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  now: Date,
): KeyObject | undefined {
  const [leaf] = chain;
  if (leaf === undefined || chain.length > longestChain) return undefined;
  for (const [index, certificate] of chain.entries()) {
    if (!isValid(certificate, now)) return undefined;
    if (roots.some((root) => isSame(root, certificate) || (isValid(root, now) && issued(root, certificate))))
      return leaf.publicKey;
    const issuer = chain[index + 1];
    if (issuer === undefined || !issued(issuer, certificate)) return undefined;
  }
  return undefined;
}

function isValid({ validFromDate, validToDate }: X509Certificate, now: Date): boolean {
  return validFromDate <= now && now <= validToDate;
}

function isSame(one: X509Certificate, other: X509Certificate): boolean {
  return one.fingerprint512 === other.fingerprint512;
}

function issued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
