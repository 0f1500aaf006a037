import { createHash, X509Certificate, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import {
  BasicConstraints,
  Certificate,
  CertificateChainValidationEngine,
  ExtKeyUsage,
  id_BasicConstraints,
  id_CertificatePolicies,
  id_ExtKeyUsage,
  id_InhibitAnyPolicy,
  id_KeyUsage,
  id_NameConstraints,
  id_PolicyConstraints,
  id_PolicyMappings,
  id_SubjectAltName,
  type Extension,
} from 'pkijs';

/** The most certificates in a token. A longer chain is refused before any certificate is parsed. */
const longestChain = 8;
/** `anyExtendedKeyUsage` (RFC 5280 §4.2.1.12) and `id-kp-jwt` (RFC 9509 §3). */
const purposes: ReadonlySet<string> = new Set(['2.5.29.37.0', '1.3.6.1.5.5.7.3.37']);
/** Extensions whose rules are applied. A certificate with another critical one is refused (RFC 5280 §4.2). */
const processed: ReadonlySet<string> = new Set([
  id_BasicConstraints,
  id_CertificatePolicies,
  id_ExtKeyUsage,
  id_InhibitAnyPolicy,
  id_KeyUsage,
  id_NameConstraints,
  id_PolicyConstraints,
  id_PolicyMappings,
  id_SubjectAltName,
]);

/** How long a verdict is used: PKI.js takes milliseconds for one, and clients send the same chain with each request. */
const rememberMs = 60_000;
const mostRemembered = 64;

/** Decides which chains of certificates lead to a trusted certificate and may sign tokens. */
export class CertificateChains {
  readonly #verdicts = new LRUCache<string, Promise<boolean>>({ max: mostRemembered, ttl: rememberMs });

  constructor(private readonly trusted: readonly X509Certificate[]) {}

  /**
   * The public key of the first certificate, if the chain leads to a trusted certificate by RFC 5280 §6 (without
   * revocation) and the first certificate may sign tokens. A trusted certificate needs no chain.
   * @param chain DER in base64, each certificate issued by the next (RFC 7515 §4.1.6)
   * @returns `undefined` where the key is not trusted, for whatever reason
   */
  async keyOf(chain: readonly string[]): Promise<KeyObject | undefined> {
    if (chain.length > longestChain) return undefined;
    const certificates = readAll(chain);
    const [first] = certificates;
    if (first === undefined) return undefined;
    if (this.trusted.some(({ raw }) => raw.equals(first.raw))) return first.publicKey;
    // OpenSSL is quick: a client without a certificate of a trusted issuer costs no more than this check.
    if (!isLinked(certificates, this.trusted)) return undefined;
    return (await this.#verdict(chain, certificates)) ? first.publicKey : undefined;
  }

  #verdict(chain: readonly string[], certificates: readonly X509Certificate[]): Promise<boolean> {
    const id = createHash('sha256').update(chain.join()).digest('base64');
    const known = this.#verdicts.get(id);
    if (known !== undefined) return known;
    const verdict = holds(certificates, this.trusted);
    this.#verdicts.set(id, verdict);
    return verdict;
  }
}

/**
 * Whether each certificate is issued by the next, until one is issued by a trusted certificate. Begins at the trusted
 * end, because a check of one signature with an untrusted key may take 20 ms.
 */
function isLinked(certificates: readonly X509Certificate[], trusted: readonly X509Certificate[]): boolean {
  const last = certificates.findIndex((each) => trusted.some((issuer) => isIssuedBy(each, issuer)));
  const issued = certificates.slice(0, Math.max(0, last)).toReversed();
  return last >= 0 && issued.every((each, index) => isIssuedBy(each, certificates[last - index]));
}

/** The certificates of the chain; none if one of them cannot be parsed. */
function readAll(chain: readonly string[]): X509Certificate[] {
  try {
    return chain.map((text) => new X509Certificate(Buffer.from(text, 'base64')));
  } catch {
    return [];
  }
}

async function holds(
  certificates: readonly X509Certificate[],
  trusted: readonly X509Certificate[],
): Promise<boolean> {
  try {
    const path = await pathOf(certificates, trusted);
    return path.length > 0 && keepsLengths(path) && signsTokens(path);
  } catch {
    return false; // the chain comes from an untrusted client: it may be anything
  }
}

/** From the first certificate to a trusted one; empty where there is no valid path. */
async function pathOf(
  certificates: readonly X509Certificate[],
  trusted: readonly X509Certificate[],
): Promise<readonly Certificate[]> {
  const [ruled, anchors] = [certificates, trusted].map((list) =>
    list.map(({ raw }) => Certificate.fromBER(raw)),
  );
  if (ruled === undefined || anchors === undefined) return [];
  // The engine's own search tries every order of the certificates, and does not support Ed25519.
  const findIssuer = (certificate: Certificate): Promise<Certificate[]> => {
    const index = ruled.indexOf(certificate);
    const issued = certificates[index];
    const next = certificates[index + 1];
    if (issued === undefined) return Promise.resolve([]);
    return Promise.resolve([
      ...anchors.filter((_, place) => isIssuedBy(issued, trusted[place])),
      ...ruled.slice(index + 1, index + 2).filter(() => isIssuedBy(issued, next)),
    ]);
  };
  const engine = new CertificateChainValidationEngine({
    trustedCerts: anchors,
    certs: ruled.toReversed(), // the engine validates the last one
    findIssuer,
  });
  const { result, certificatePath = [] } = await engine.verify();
  return result && certificatePath[0] === ruled[0] ? certificatePath : [];
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate | undefined): boolean {
  if (issuer?.ca !== true || !certificate.checkIssued(issuer)) return false;
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    return false; // a key of an unknown kind
  }
}

/** RFC 5280 §6.1.4 (l) to (n), which PKI.js does not check: how many further authorities may stand below one. */
function keepsLengths(path: readonly Certificate[]): boolean {
  return path.every((authority, index) => {
    const most = valueOf(authority, id_BasicConstraints, BasicConstraints)?.pathLenConstraint;
    if (most === undefined) return true;
    const below = path.slice(1, index).filter(({ issuer, subject }) => !issuer.isEqual(subject));
    return typeof most === 'number' && below.length <= most;
  });
}

/** The purposes of an authority limit those of the certificates below it, as in OpenSSL and Go. */
function signsTokens(path: readonly Certificate[]): boolean {
  return path.every((certificate, index) => {
    const named = valueOf(certificate, id_ExtKeyUsage, ExtKeyUsage)?.keyPurposes;
    const forTokens = named === undefined || named.some((purpose) => purposes.has(purpose));
    return (
      forTokens &&
      (certificate.extensions ?? []).every(isUnderstood) &&
      (index > 0 || makesSignatures(certificate))
    );
  });
}

/** PKI.js keeps an extension that it cannot read, and accepts a critical one that it does not know. */
function isUnderstood({ critical, extnID, parsedValue }: Extension): boolean {
  if (!processed.has(extnID)) return !critical;
  return parsedValue !== undefined && !('parsingError' in parsedValue && parsedValue.parsingError);
}

/**
 * Key usage is absent, or has the bit digitalSignature (RFC 5280 §4.2.1.3). The signature of a token (RFC 7515) proves
 * where it comes from, so nonRepudiation alone, the usage of signed documents, does not suffice.
 */
function makesSignatures(certificate: Certificate): boolean {
  const bits = extensionOf(certificate, id_KeyUsage)?.parsedValue as BitString | undefined;
  return bits === undefined || ((bits.valueBlock.valueHexView[0] ?? 0) & 0x80) !== 0;
}

interface BitString {
  readonly valueBlock: { readonly valueHexView: Uint8Array };
}

function valueOf<T>(certificate: Certificate, id: string, kind: new () => T): T | undefined {
  const value: unknown = extensionOf(certificate, id)?.parsedValue;
  return value instanceof kind ? value : undefined;
}

function extensionOf({ extensions }: Certificate, id: string): Extension | undefined {
  return extensions?.find(({ extnID }) => extnID === id);
}
