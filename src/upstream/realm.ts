import { isIP } from 'node:net';
import { getDomain } from 'tldts';
import { UpstreamError } from './upstream.js';

/** Where an upstream is, and which token servers beyond its own domain its operator trusts (`realms`). */
export interface RealmRule {
  readonly host: string;
  readonly url: URL;
  /** Hosts, with or without a port; without one any port is meant. */
  readonly realms: readonly string[];
}

/**
 * The realm of a challenge as a URL that may be asked for a token (rule 7; CVE-2026-33540): on the upstream's own
 * host, or in its registrable domain, or listed; by https when the upstream is; without user information. An
 * anonymous request is held to it too, or a registry could make its mirror ask whom it likes.
 * @throws UpstreamError `realm-refused`; its reason names the realm's host and nothing else of it.
 */
export function checkRealm(realm: string, rule: RealmRule): URL {
  const url = URL.parse(realm);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw refused(rule, 'the token realm is not a URL of http or https');
  }
  const host = url.host.slice(0, 260);
  if (url.username !== '' || url.password !== '') {
    throw refused(rule, `the token realm on ${host} carries user information`);
  }
  if (rule.url.protocol === 'https:' && url.protocol !== 'https:') {
    throw refused(rule, `the token realm on ${host} is not https, as the upstream is`);
  }
  if (isListed(url, rule.realms) || isOwn(url.hostname, rule.url.hostname)) return url;
  throw refused(
    rule,
    `the token realm's host ${host} is not of the upstream's domain; "realms" can allow it`,
  );
}

/** Whether the URL's host is one of these: with or without a port; without one any port is meant. */
export function isListed(url: URL, hosts: readonly string[]): boolean {
  return hosts.some((host) => {
    const listed = host.toLowerCase();
    return listed === url.host || listed === url.hostname || listed === `${url.hostname}:${portOf(url)}`;
  });
}

function isOwn(hostname: string, own: string): boolean {
  if (hostname === own) return true;
  if (isIP(hostname) !== 0 || isIP(own) !== 0) return false;
  if (hostname.includes('..')) return false; // no name of the DNS, whatever the suffix list makes of it
  // Private suffixes count as suffixes: two customers of one hosting domain are strangers.
  const domain = getDomain(hostname, { allowPrivateDomains: true });
  return domain !== null && domain === getDomain(own, { allowPrivateDomains: true });
}

function portOf(url: URL): string {
  return url.port || (url.protocol === 'https:' ? '443' : '80');
}

function refused(rule: RealmRule, reason: string): UpstreamError {
  return new UpstreamError('realm-refused', rule.host, reason);
}
