import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import type { TlsConfig } from '../config/config.js';
import type { Check, Tell } from './check.js';

const dayMs = 24 * 60 * 60_000;
const soonDays = 14;
const block = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The certificate that clients see. `hosts`: names of this mirror that are configured. */
export function certificateCheck(tls: TlsConfig, hosts: readonly string[]): Check {
  return {
    name: 'certificate',
    run: async (tell) => {
      const [text, key] = await Promise.all([readFile(tls.certificate, 'utf8'), readFile(tls.key)]);
      const chain = (text.match(block) ?? []).map((pem) => new X509Certificate(pem));
      const [leaf] = chain;
      if (leaf === undefined) {
        tell.fail(`${tls.certificate} holds no certificate`, 'it has to be PEM: the own certificate first');
        return;
      }
      const sound = [
        fits(leaf, key, tls, tell),
        isInOrder(chain, tls, tell),
        leadsToRoot(chain, tls, tell),
        isCurrent(leaf, tls, tell),
        namesAll(leaf, hosts, tell),
      ];
      if (sound.includes(false)) return;
      const names = leaf.subjectAltName?.replaceAll(/(?:DNS|IP Address):/g, '') ?? '';
      tell.ok(`for ${names}, until ${leaf.validToDate.toISOString().slice(0, 10)}`);
    },
  };
}

function fits(leaf: X509Certificate, key: Buffer, tls: TlsConfig, tell: Tell): boolean {
  try {
    if (leaf.checkPrivateKey(createPrivateKey(key))) return true;
    tell.fail(
      `the key ${tls.key} does not belong to ${tls.certificate}`,
      'http.tls.key has to be the key that the certificate was made for',
    );
  } catch {
    tell.fail(`${tls.key} is no private key in PEM without a passphrase`, 'convert it: openssl pkey');
  }
  return false;
}

function isInOrder(chain: readonly X509Certificate[], { certificate }: TlsConfig, tell: Tell): boolean {
  const broken = chain.findIndex((each, index) => {
    const issuer = chain[index + 1];
    return issuer !== undefined && !each.checkIssued(issuer);
  });
  if (broken === -1) return true;
  tell.fail(
    `in ${certificate} the certificate ${broken + 2} is not the issuer of the one before it`,
    'put the own certificate first, then each issuer after what it issued',
  );
  return false;
}

/** A server has to send all but the root: what clients make of the rest differs from one to the next. */
function leadsToRoot(chain: readonly X509Certificate[], { certificate }: TlsConfig, tell: Tell): boolean {
  const last = chain.at(-1);
  if (last === undefined || last.checkIssued(last)) return true;
  if (getCACertificates('default').some((root) => last.checkIssued(new X509Certificate(root)))) return true;
  const issuer = last.issuer.replaceAll('\n', ', ');
  tell.warn(
    `${certificate} ends with what ${issuer} has issued, whom nobody here knows`,
    'append the certificates in between (fullchain.pem); an authority of your own has to be known to every client',
  );
  return false;
}

function isCurrent(
  { validFromDate, validToDate }: X509Certificate,
  { certificate }: TlsConfig,
  tell: Tell,
): boolean {
  const days = (validToDate.getTime() - Date.now()) / dayMs;
  if (days < 0) {
    tell.fail(
      `${certificate} has expired on ${validToDate.toISOString()}`,
      'renew it: no client pulls until then',
    );
  } else if (validFromDate.getTime() > Date.now()) {
    tell.fail(
      `${certificate} is not valid before ${validFromDate.toISOString()}`,
      'see whether the clock is right',
    );
  } else if (days < soonDays) {
    tell.warn(
      `${certificate} expires in less than ${Math.ceil(days)} days`,
      'renew it: the mirror takes the new one by itself',
    );
  } else return true;
  return false;
}

function namesAll(leaf: X509Certificate, hosts: readonly string[], tell: Tell): boolean {
  if (leaf.subjectAltName === undefined) {
    tell.fail(
      'the certificate has no subjectAltName',
      'clients look at nothing else: have it made with the names',
    );
    return false;
  }
  const missing = hosts.filter((host) => leaf.checkHost(host.replace(/:\d+$/, '')) === undefined);
  if (missing.length === 0) return true;
  tell.fail(
    `the certificate is not for ${missing.join(', ')}, which stand for upstreams (hosts)`,
    'have it made with all names',
  );
  return false;
}
