import { isIP } from 'node:net';
import { parseRepository } from '../oci/name.js';
import { parseReference } from '../oci/reference.js';
import { parseListen } from './listen.js';
import { Secret } from './secret.js';

/** How one kind of value is read from the text that YAML or the environment gives. */
export interface Value<T> {
  /** What the documentation calls it. */
  readonly kind: string;
  /** What an error says that it wants, for the text that it got. */
  readonly wanted: string | ((text: string, fallback?: string) => string);
  /** `undefined` where the text is not such a value. */
  read(text: string): T | undefined;
  readonly secret?: true;
  /** A path, relative to the working directory; `file` where the file must be there and readable. */
  readonly path?: 'file' | 'any';
  /** For a file: whether its text has content. */
  readonly holds?: (text: string) => boolean;
}

export const text: Value<string> = { kind: 'text', wanted: 'a text', read: (given) => given };

export const secret: Value<Secret> = {
  kind: 'secret',
  wanted: 'a text',
  read: (given) => new Secret(given),
  secret: true,
};

export const path: Value<string> = { ...text, kind: 'path', wanted: 'a path', path: 'any' };
export const file: Value<string> = { ...text, kind: 'file', wanted: 'a readable file', path: 'file' };

const isFilled = (text: string): boolean => text.trim() !== '';
const hasContent = (text: string): boolean =>
  text.split('\n').some((line) => isFilled(line) && !line.startsWith('#'));

/** A file that contains a secret or keys. */
export const filledFile: Value<string> = {
  ...file,
  wanted: 'a readable file that is not empty',
  holds: isFilled,
};

export const htpasswdFile: Value<string> = {
  ...file,
  wanted: 'a readable file with a line USER:HASH, as htpasswd -B writes it',
  holds: hasContent,
};

export const certificatesFile: Value<string> = {
  ...file,
  wanted: 'a readable file with certificates in PEM',
  holds: hasContent,
};

const booleans = new Map<string, boolean>();
for (const word of ['true', 'yes', 'on', 'y']) booleans.set(word, true);
for (const word of ['false', 'no', 'off', 'n']) booleans.set(word, false);

/** Also with YAML 1.1's words, which is what registry reads. */
export const flag: Value<boolean> = {
  kind: 'boolean',
  wanted: 'true or false',
  read: (given) => booleans.get(given.toLowerCase()),
};

export function count(least = 0, most = 2 ** 31 - 1): Value<number> {
  return {
    kind: 'number',
    wanted:
      most === 2 ** 31 - 1 ? `a whole number, ${least} or more` : `a whole number from ${least} to ${most}`,
    read: (given) => {
      const number = /^\d{1,10}$/.test(given) ? Number(given) : -1;
      return number >= least && number <= most ? number : undefined;
    },
  };
}

export function oneOf<const T extends string>(...words: readonly T[]): Value<T> {
  return {
    kind: words.map((word) => `\`${word}\``).join(', '),
    wanted: `one of ${words.join(', ')}`,
    read: (given) => words.find((word) => word === given.toLowerCase()),
  };
}

const durationForm = /^(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const milliseconds: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1e3,
  m: 6e4,
  h: 36e5,
};
/** The longest time that a timer of the platform counts; it would fire at once for a longer one. */
const longestTimer = 2 ** 31 - 1;

/**
 * A duration in whole milliseconds, rounded up. Accepts the form of Go's time.ParseDuration and, as registry, a bare
 * number of nanoseconds. Refuses less than a millisecond: an operator who writes `168` does not mean 168 ns.
 */
function readDuration(given: string): number | undefined {
  let total = 0;
  if (bareNumber.test(given)) total = Number(given) / 1e6;
  else if (durationForm.test(given)) {
    for (const [, number, unit] of given.matchAll(/([\d.]+)([a-zµμ]+)/g)) {
      total += Number(number) * (milliseconds[unit ?? ''] ?? Number.NaN);
    }
  } else return undefined;
  return total > 0 && total < 1 ? undefined : Math.ceil(Number(total.toFixed(6)));
}

const bareNumber = /^\d+$/;

/** For a number without a unit: proposes the unit that brings it closest to the default. */
export function hint(given: string, fallback: string | undefined): string | undefined {
  if (!bareNumber.test(given)) return undefined;
  const usual = readDuration(fallback ?? '') ?? 60_000;
  const distance = (unit: string): number =>
    Math.abs(Math.log((Number(given) * (milliseconds[unit] ?? 1)) / usual));
  const [unit = 's'] = ['ms', 's', 'm', 'h'].toSorted((a, b) => distance(a) - distance(b));
  return `${given} has no unit: write ${given}${unit}?`;
}

function durationUpTo(most: number, wanted: string): Value<number> {
  return {
    kind: 'duration',
    wanted: (given, fallback) => {
      const meant = hint(given, fallback);
      return meant === undefined ? `${wanted}, at least 1ms or 0` : `${wanted} (${meant})`;
    },
    read: (given) => {
      const ms = readDuration(given);
      return ms !== undefined && ms <= most ? ms : undefined;
    },
  };
}

/** A duration that a timer of the platform may have to count. */
export const duration = durationUpTo(longestTimer, 'a duration such as 10ms, 60s or 1h30m, at most 596h');

/** A duration that is compared with the clock: registry's own limit, some 290 years. */
export const time = durationUpTo(2 ** 63 / 1e6, 'a duration such as 60s, 1h30m or 720h');

/** The time after which content is deleted. Refuses a bare number below a minute: the operator meant another unit. */
export const lifetime: Value<number> = {
  ...time,
  read: (given) => {
    const ms = time.read(given);
    return ms !== undefined && ms > 0 && ms < 60_000 && bareNumber.test(given) ? undefined : ms;
  },
};

/** The same, with a least value, which `wanted` names. */
export function atLeast(least: number, value: Value<number>, wanted: string): Value<number> {
  return {
    ...value,
    wanted: (given, fallback) => {
      const meant = value.kind === 'duration' ? hint(given, fallback) : undefined;
      return meant === undefined ? wanted : `${wanted} (${meant})`;
    },
    read: (given) => {
      const number = value.read(given);
      return number === undefined || number < least ? undefined : number;
    },
  };
}

/** A number for which registry takes zero as "the default". */
export function orIfZero(value: Value<number>, fallback: number): Value<number> {
  return {
    ...value,
    read: (given) => {
      const number = value.read(given);
      return number === 0 ? fallback : number;
    },
  };
}

/** The smallest size without a unit: an operator who writes a smaller number has forgotten the unit. */
const leastBareSize = 1000;

const bareSize = /^[\d.]+$/;
const sizeForm = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])(i)?)?b?$/i;

/** Bytes. 1GB is 10^9, 1GiB is 2^30. */
export const size: Value<number> = {
  kind: 'size',
  wanted: 'a size such as 500GB or 20GiB, or a number of bytes, which is 0 or at least 1000',
  read: (given) => {
    const match = sizeForm.exec(given);
    if (match === null) return undefined;
    const [, number, unit, binary] = match;
    if (bareSize.test(given) && Number(number) !== 0 && !isWholeSize(number ?? '')) return undefined;
    const power = unit === undefined ? 0 : 'kmgtp'.indexOf(unit.toLowerCase()) + 1;
    const bytes = Math.round(Number(number) * (binary === undefined ? 1000 : 1024) ** power);
    return Number.isSafeInteger(bytes) ? bytes : undefined;
  },
};

function isWholeSize(number: string): boolean {
  return Number.isInteger(Number(number)) && Number(number) >= leastBareSize;
}

const smallestPart = 5 * 2 ** 20;
const largestPart = 5 * 2 ** 30;

/** The size of a part of an upload, in bytes, within S3's limits. */
export const partSize: Value<number> = {
  ...size,
  wanted: 'a size from 5MiB to 5GiB, such as 10MiB or a number of bytes',
  read: (given) => {
    const bytes = size.read(given);
    return bytes !== undefined && bytes >= smallestPart && bytes <= largestPart ? bytes : undefined;
  },
};

/** Docker Hub's one registry, by all of its names. */
export const dockerHub = 'docker.io';
export const dockerHubAliases: readonly string[] = ['index.docker.io', 'registry-1.docker.io'];

const hostForm = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::\d{1,5})?$/;

function isHost(name: string): boolean {
  return hostForm.test(name) && isPort(/:(\d+)$/.exec(name)?.[1] ?? '1');
}

/** Whether a client can connect to this port: port 0 is only for listening. */
function isPort(digits: string): boolean {
  return Number(digits) >= 1 && Number(digits) <= 65_535;
}

/** `host` or `host:port` by the grammar of image references, in lower case; Docker Hub's other names become `docker.io`. */
export const host: Value<string> = {
  kind: 'host',
  wanted: 'a host name with an optional port, such as ghcr.io or registry.local:5000',
  read: (given) => {
    const name = given.toLowerCase();
    if (!isHost(name)) return undefined;
    return dockerHubAliases.includes(name) ? dockerHub : name;
  },
};

/** A host name that is itself and nothing else: in the `Host` header, in a token realm. */
export const plainHost: Value<string> = {
  ...host,
  read: (given) => (isHost(given.toLowerCase()) ? given.toLowerCase() : undefined),
};

/** The origin of a registry: `https://ghcr.io`. */
export const origin: Value<string> = {
  kind: 'URL',
  wanted: (given) => {
    const url = parseHttpUrl(given);
    if (url === undefined) return 'an http or https URL, such as https://ghcr.io';
    if (url.username !== '' || url.password !== '')
      return 'a URL without credentials: they go under username and password';
    return `${url.origin} alone: an upstream is asked at its root (/v2/…), so a path or query would be lost`;
  },
  read: (given) => {
    const url = parseHttpUrl(given);
    return url !== undefined && url.href === `${url.origin}/` ? url.origin : undefined;
  },
};

/** Any http or https URL. */
export const url: Value<string> = {
  kind: 'URL',
  wanted: 'an http or https URL',
  read: (given) => parseHttpUrl(given)?.href,
};

function parseHttpUrl(given: string): URL | undefined {
  const parsed = /^https?:\/\//i.test(given) ? URL.parse(given) : null;
  return parsed === null || parsed.port === '0' ? undefined : parsed;
}

/** The address of an S3 server, as registry takes it: a URL, or `HOST[:PORT]` alone. */
export const endpoint: Value<string> = {
  kind: 'URL or host',
  wanted: 'an http or https URL without a path, or HOST:PORT',
  read: (given) => {
    const parsed = parseHttpUrl(/^https?:\/\//i.test(given) ? given : `https://${given}`);
    if (parsed === undefined || parsed.username !== '' || parsed.password !== '') return undefined;
    return parsed.href === `${parsed.origin}/` ? given : undefined;
  },
};

/** `host:port` to listen on. */
export const address: Value<string> = {
  kind: 'address',
  wanted: 'HOST:PORT, :PORT or [IPv6]:PORT',
  read: (given) => (parseListen(given) === undefined ? undefined : given),
};

/** `host:port` to connect to. */
export const remoteAddress: Value<string> = {
  ...address,
  wanted: 'HOST:PORT, :PORT or [IPv6]:PORT, with a port from 1 to 65535',
  read: (given) => (isPort(String(parseListen(given)?.port ?? 0)) ? given : undefined),
};

/** A path in a URL, beginning with a slash. */
export const urlPath: Value<string> = {
  kind: 'URL path',
  wanted: 'a path that begins with /, such as /metrics',
  read: (given) => (/^\/[\w.~/-]*$/.test(given) ? given : undefined),
};

/** A name by Kubernetes' grammar ("Object Names and IDs", RFC 1123 label): a namespace. */
export const kubernetesLabel: Value<string> = {
  kind: 'name',
  wanted: 'a name of at most 63 small letters, digits and hyphens',
  read: (given) => (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(given) ? given : undefined),
};

/** The same with dots (RFC 1123 subdomain): most other objects. */
export const kubernetesName: Value<string> = {
  kind: 'name',
  wanted: 'a name of at most 253 small letters, digits, hyphens and dots',
  read: (given) =>
    given.length <= 253 && given.split('.').every((part) => kubernetesLabel.read(part) !== undefined)
      ? given
      : undefined,
};

const tlsVersions = {
  'tls1.0': 'TLSv1',
  'tls1.1': 'TLSv1.1',
  'tls1.2': 'TLSv1.2',
  'tls1.3': 'TLSv1.3',
} as const;
export type TlsVersion = (typeof tlsVersions)[keyof typeof tlsVersions];
const tlsWords = oneOf('tls1.0', 'tls1.1', 'tls1.2', 'tls1.3');

/** Registry's spelling in, Node's out. */
export const tlsVersion: Value<TlsVersion> = {
  ...tlsWords,
  read: (given) => {
    const word = tlsWords.read(given);
    return word === undefined ? undefined : tlsVersions[word];
  },
};

/** A platform as image indexes have it (OCI image-spec, "Image Index"): `linux/amd64`, `linux/arm/v7`. */
export const platform: Value<string> = {
  kind: 'platform',
  wanted: 'a platform such as linux/amd64 or linux/arm64/v8',
  read: (given) => (/^[a-z0-9]+\/[a-z0-9_]+(?:\/[a-z0-9.]+)?$/.test(given) ? given : undefined),
};

/** The text of an image reference (oci/reference.ts); which upstream it leads to is known later. */
export const image: Value<string> = {
  kind: 'image',
  wanted: 'an image such as alpine:3 or ghcr.io/owner/image:v1',
  read: (given) => (parseReference(given) === undefined ? undefined : given),
};

/** Addresses by their prefix (CIDR); a single address is a network of its own. */
export interface Network {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly prefix: number;
}

export const network: Value<Network> = {
  kind: 'network',
  wanted: 'a network such as 10.0.0.0/8 or fd00::/8, or an address',
  read: (given) => {
    const [address = '', prefix, more] = given.split('/');
    const version = isIP(address);
    if (version === 0 || address.includes('%') || more !== undefined) return undefined;
    const longest = version === 4 ? 32 : 128;
    if (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) return undefined;
    const length = prefix === undefined ? longest : Number(prefix);
    return length > longest
      ? undefined
      : { family: version === 4 ? 'ipv4' : 'ipv6', address, prefix: length };
  },
};

/** Names of an upstream's repositories: one, all below a path (`team/*`), or all (`*`). */
export const repositoryPattern: Value<string> = {
  kind: 'repositories',
  wanted: 'a repository such as team/app, team/* for all below, or * for all',
  read: (given) => {
    const name = given.endsWith('/*') ? given.slice(0, -2) : given;
    return given === '*' || parseRepository(name) !== undefined ? given : undefined;
  },
};

export const userName: Value<string> = {
  kind: 'user',
  wanted: 'the name of a user, or * for whoever logged in',
  read: (given) => (given === '' ? undefined : given),
};

/** Of a group, or of a user in one: each is named, so that `*` is no name. */
export const memberName: Value<string> = {
  kind: 'name',
  wanted: 'a name, and not *',
  read: (given) => (given === '' || given === '*' ? undefined : given),
};

const signingAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export type SigningAlgorithm = (typeof signingAlgorithms)[number];

/**
 * How tokens may be signed, by the names of RFC 7518 and RFC 8037: with a private key. Those with a secret (HS256)
 * and without any (none) are not among them, because whoever can read the public key could make such a token.
 */
export const signingAlgorithm: Value<SigningAlgorithm> = {
  kind: signingAlgorithms.join(', '),
  wanted: `one of ${signingAlgorithms.join(', ')}`,
  read: (given) => signingAlgorithms.find((name) => name === given),
};
