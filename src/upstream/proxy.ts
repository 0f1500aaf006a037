import { BlockList, isIP } from 'node:net';

/** The proxy variables. `no` is a list, as in `NO_PROXY`. */
export interface ProxySettings {
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  readonly no?: string | undefined;
}

/** The proxy variables of an environment, lower case before upper case, as curl and Go's net/http read them. */
export function proxySettings(environment: Readonly<Record<string, string | undefined>>): ProxySettings {
  const read = (name: string): string | undefined =>
    environment[name] || environment[name.toUpperCase()] || undefined;
  return { http: read('http_proxy'), https: read('https_proxy'), no: read('no_proxy') };
}

/**
 * Which proxy leads to a URL, by the rules of Go's golang.org/x/net/http/httpproxy, so that a deployment's variables
 * mean what they meant to registry:2: `HTTPS_PROXY` alone is for https; nothing on this machine goes through a proxy;
 * `NO_PROXY` lists names (`example.com` and below it, `.example.com` below it only), addresses, networks, or `*`,
 * each with or without a port.
 */
export class ProxyRule {
  readonly #http: URL | undefined;
  readonly #https: URL | undefined;
  readonly #exceptions: readonly Exception[];

  /** @throws TypeError where a proxy's address is not one; without the address, it may hold a password. */
  constructor(settings: ProxySettings) {
    this.#http = parseProxy(settings.http, 'HTTP_PROXY');
    this.#https = parseProxy(settings.https, 'HTTPS_PROXY');
    this.#exceptions = (settings.no ?? '')
      .split(',')
      .map((entry) => entry.trim().toLowerCase())
      .filter((entry) => entry !== '')
      .map(parseException);
  }

  proxyFor(url: URL): URL | undefined {
    const proxy = url.protocol === 'https:' ? this.#https : this.#http;
    if (proxy === undefined) return undefined;
    const host = bare(url.hostname);
    if (host === 'localhost' || isLoopback(host)) return undefined;
    const port = url.port || (url.protocol === 'https:' ? '443' : '80');
    return this.#exceptions.some((excepts) => excepts(host, port)) ? undefined : proxy;
  }
}

type Exception = (host: string, port: string) => boolean;

function parseException(entry: string): Exception {
  if (entry === '*') return () => true;
  const slash = entry.indexOf('/');
  const network = entry.slice(0, slash);
  if (slash !== -1 && isIP(network) !== 0) {
    const bits = Number(entry.slice(slash + 1));
    const list = new BlockList();
    if (bits <= (family(network) === 'ipv4' ? 32 : 128)) list.addSubnet(network, bits, family(network));
    return (host) => isIP(host) !== 0 && list.check(host, family(host));
  }
  const [name, port] = splitPort(entry);
  const matchesPort = (actual: string): boolean => port === undefined || port === actual;
  if (isIP(name) !== 0) return (host, actual) => host === name && matchesPort(actual);
  const suffix = name.replace(/^\*?\.?/, '.');
  const apex = name.startsWith('.') || name.startsWith('*') ? undefined : name;
  return (host, actual) => (host === apex || host.endsWith(suffix)) && matchesPort(actual);
}

function splitPort(entry: string): [string, string | undefined] {
  if (isIP(entry) !== 0) return [entry, undefined];
  const colon = entry.lastIndexOf(':');
  if (colon === -1 || entry.endsWith(']')) return [bare(entry), undefined];
  return [bare(entry.slice(0, colon)), entry.slice(colon + 1)];
}

/** Without the brackets of an IPv6 address in a URL and without the dot of a complete name. */
function bare(host: string): string {
  if (host.startsWith('[') && host.endsWith(']')) return host.slice(1, -1);
  return host.endsWith('.') ? host.slice(0, -1) : host;
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

function isLoopback(host: string): boolean {
  return host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function parseProxy(text: string | undefined, name: string): URL | undefined {
  if (text === undefined || text === '') return undefined;
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new TypeError(`${name} is not the address of an http or https proxy`);
  }
  return url;
}
