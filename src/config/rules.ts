import type { ConfigFault, ConfigNote } from './faults.js';
import { nearest } from './nearest.js';
import { at, formatPath, isMap, type Path, type Tree } from './tree.js';
import { address, dockerHub, flag, host, plainHost, origin, time } from './values.js';

type Report = (path: Path, got: string, wanted: string) => void;

/**
 * What several keys must be together. Looks at the tree and not at its parsed form, so that these faults are found
 * beside those of single values; what is wrong by itself is left to them.
 */
export function checkRules(tree: Tree): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const report: Report = (path, got, wanted) => faults.push({ key: formatPath(path), got, wanted });
  checkDriver(tree, report);
  checkServer(tree, report);
  for (const path of upstreamPaths(tree)) checkUpstreamCredentials(tree, path, report);
  if (has(tree, ['proxy', 'dockerconfigjson']) && has(tree, ['proxy', 'pullsecrets'])) {
    const wanted = 'only one of dockerconfigjson and pullsecrets';
    report(['proxy', 'pullsecrets'], 'dockerconfigjson beside it', wanted);
  }
  checkCallers(tree, report);
  checkAuth(tree, report);
  checkGrants(tree, report);
  checkHosts(tree, report);
  checkHostNames(tree, report);
  if (has(tree, ['storage', 's3']) && has(tree, ['proxy', 'minfree'])) {
    report(['proxy', 'minfree'], 'this key with s3', 'it with a filesystem alone; maxsize limits a bucket');
  }
  for (const path of [
    ['cluster', 'secret'],
    ['redis', 'password'],
    ['redis', 'sentinelpassword'],
    ['storage', 's3', 'accesskey'],
    ['storage', 's3', 'secretkey'],
    ['storage', 's3', 'sessiontoken'],
  ]) {
    checkFile(tree, path, report);
  }
  return faults;
}

/** What is lawful, and without effect beside something else. */
export function noteRules(tree: Tree): ConfigNote[] {
  return [...noteOpen(tree), ...noteUnverified(tree), ...noteKept(tree)];
}

/** Whoever reaches the mirror reads with its credentials: lawful, and often not meant. */
function noteOpen(tree: Tree): ConfigNote[] {
  if (hasLogin(tree)) return [];
  // It may have some for any of them.
  const shared = has(tree, ['proxy', 'dockerconfigjson']) || has(tree, ['proxy', 'pullsecrets']);
  const own = ['username', 'credentials', 'exec'];
  const open = upstreamPaths(tree).filter(
    (path) =>
      (shared ? isMirrored(tree, path) : own.some((key) => has(tree, [...path, key]))) &&
      !has(tree, [...path, 'access']) &&
      !isSet(tree, [...path, 'verifycaller']),
  );
  if (open.length === 0) return [];
  const names = open.map(
    (path) =>
      textAt(tree, [...path, 'host']) ?? originHost(textAt(tree, [...path, 'remoteurl'])) ?? 'the default',
  );
  const message = `is none, so whoever reaches this mirror may pull what its credentials can read from ${names.join(', ')}`;
  return [{ key: 'auth', message }];
}

/** Addresses that may read without being verified: lawful, and not what everybody would think. */
function noteUnverified(tree: Tree): ConfigNote[] {
  const verified = upstreamPaths(tree).filter((path) => isSet(tree, [...path, 'verifycaller']));
  const networks = verified.flatMap((upstream) => {
    const grants = at(tree, [...upstream, 'access']);
    return (Array.isArray(grants) ? grants : []).flatMap((grant, index): Path[] =>
      has(grant, ['networks']) && loginKeys.every((key) => !has(grant, [key]))
        ? [[...upstream, 'access', index, 'networks']]
        : [],
    );
  });
  const message = 'may pull what is granted there without being asked: verifycaller is for everybody else';
  return networks.map((path) => ({ key: formatPath(path), message }));
}

/** `proxy` itself is an upstream only by its URL. */
function isMirrored(tree: Tree, path: Path): boolean {
  return path.length > 1 || has(tree, [...path, 'remoteurl']);
}

function noteKept(tree: Tree): ConfigNote[] {
  if (isSet(tree, ['storage', 'delete', 'enabled'])) return [];
  const paths: Path[] = [
    ['proxy', 'ttl'],
    ['proxy', 'maxsize'],
    ['proxy', 'minfree'],
    ...upstreamsOf(tree).map((_, index) => ['proxy', 'upstreams', index, 'ttl']),
  ];
  const asked = paths.filter((path) => {
    const given = textAt(tree, path);
    return given !== undefined && !(path.at(-1) === 'ttl' && time.read(given) === 0);
  });
  return asked.map((path) => ({
    key: formatPath(path),
    message: 'has no effect: nothing is deleted while storage.delete.enabled is false',
  }));
}

function has(tree: Tree, path: Path): boolean {
  return at(tree, path) !== undefined;
}

/** Whether a flag is there and true. */
function isSet(tree: Tree, path: Path): boolean {
  return flag.read(textAt(tree, path) ?? 'false') === true;
}

function isEmpty(value: Tree | undefined): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** Whether there is anything by which a client is somebody. */
function hasLogin(tree: Tree): boolean {
  return has(tree, ['auth']) || usesCertificates(tree);
}

/** Whether clients are who their certificate says. */
function usesCertificates(tree: Tree): boolean {
  const authorities = at(tree, ['http', 'tls', 'clientcas']);
  return !has(tree, ['auth']) && authorities !== undefined && !isEmpty(authorities);
}

function textAt(tree: Tree, path: Path): string | undefined {
  const value = at(tree, path);
  return typeof value === 'string' ? value : undefined;
}

function upstreamsOf(tree: Tree): Tree[] {
  const upstreams = at(tree, ['proxy', 'upstreams']);
  return Array.isArray(upstreams) ? upstreams : [];
}

/** The default's place, whether it is there or not, and those of the others. */
function upstreamPaths(tree: Tree): Path[] {
  return [['proxy'], ...upstreamsOf(tree).map((_, index): Path => ['proxy', 'upstreams', index])];
}

const besidesDrivers = new Set(['cache', 'delete', 'redirect', 'maintenance', 'tag']);

function checkDriver(tree: Tree, report: Report): void {
  const storage = at(tree, ['storage']) ?? {};
  if (!isMap(storage)) return;
  if (Object.keys(storage).every((key) => besidesDrivers.has(key)))
    report(['storage'], 'no driver', 'filesystem or s3');
  if (['filesystem', 's3'].every((driver) => has(storage, [driver]))) {
    report(['storage'], 'two drivers, filesystem and s3', 'one of them');
  }
  const s3: Path = ['storage', 's3'];
  for (const [one, other] of [
    ['accesskey', 'secretkey'],
    ['secretkey', 'accesskey'],
    ['sessiontoken', 'accesskey'],
  ] as const) {
    if (hasSecret(tree, [...s3, one]) && !hasSecret(tree, [...s3, other])) {
      report([...s3, other], 'nothing', `a value, since there is ${one}`);
    }
  }
}

/** A secret is in the configuration or in a file of its own. */
function hasSecret(tree: Tree, path: Path): boolean {
  return has(tree, path) || has(tree, fileOf(path));
}

function fileOf(path: Path): Path {
  return [...path.slice(0, -1), `${path.at(-1)}file`];
}

function checkFile(tree: Tree, path: Path, report: Report): void {
  const [name, file] = [path.at(-1), fileOf(path)];
  if (!has(tree, path) || !has(tree, file)) return;
  report(file, `a ${name} beside it`, `only one of ${name} and ${file.at(-1)}`);
}

function checkServer(tree: Tree, report: Report): void {
  const http: Path = ['http'];
  const listen = textAt(tree, [...http, 'addr']);
  if (
    textAt(tree, [...http, 'net']) !== 'unix' &&
    listen !== undefined &&
    address.read(listen) === undefined
  ) {
    report([...http, 'addr'], JSON.stringify(listen), 'HOST:PORT, :PORT or [IPv6]:PORT');
  }
  const tls: Path = [...http, 'tls'];
  const authorities = at(tree, [...tls, 'clientcas']);
  if (has(tree, [...tls, 'clientauth']) && (authorities === undefined || isEmpty(authorities)))
    report([...tls, 'clientcas'], 'nothing', 'readable files, since there is clientauth');
  const pair = ['certificate', 'key'] as const;
  const given = pair.filter((name) => has(tree, [...tls, name]));
  const others = ['minimumtls', 'clientcas', 'clientauth'].some((name) => has(tree, [...tls, name]));
  if (given.length === 2 || (given.length === 0 && !others)) return;
  for (const name of pair) {
    if (!given.includes(name))
      report([...tls, name], 'nothing', 'a readable file: TLS needs a certificate and its key');
  }
}

function checkUpstreamCredentials(tree: Tree, path: Path, report: Report): void {
  checkCredentials(tree, path, report);
  const further = at(tree, [...path, 'credentials']);
  if (!Array.isArray(further)) return;
  further.forEach((_, index) => checkCredentials(tree, [...path, 'credentials', index], report));
}

function checkCredentials(tree: Tree, path: Path, report: Report): void {
  const username = has(tree, [...path, 'username']);
  const password = has(tree, [...path, 'password']);
  const passwordfile = has(tree, [...path, 'passwordfile']);
  checkFile(tree, [...path, 'password'], report);
  if (username && has(tree, [...path, 'exec'])) {
    report([...path, 'exec'], 'a username beside it', 'only one of exec and username');
  }
  if (username && !password && !passwordfile) {
    report([...path, 'password'], 'nothing', 'a password or passwordfile, since there is a username');
  }
  if (!username && (password || passwordfile)) {
    report([...path, 'username'], 'nothing', 'a username, since there is a password');
  }
}

/** What cannot be asked of anybody must not look as if it were. */
function checkCallers(tree: Tree, report: Report): void {
  const asks = (path: Path): boolean => isSet(tree, [...path, 'verifycaller']);
  if (asks(['proxy']) && !has(tree, ['proxy', 'remoteurl'])) {
    report(['proxy', 'verifycaller'], 'no remoteurl beside it', 'it with a remoteurl, which is asked');
  }
  for (const path of upstreamPaths(tree).filter(asks)) {
    if (!has(tree, ['auth'])) continue;
    const wanted = 'only one of them: clients send one credential';
    report([...path, 'verifycaller'], 'an auth section beside it', wanted);
  }
}

function checkAuth(tree: Tree, report: Report): void {
  if (has(tree, ['auth', 'htpasswd']) && has(tree, ['auth', 'token']))
    report(['auth'], 'htpasswd and token', 'one of them');
  const keys = ['rootcertbundle', 'jwks'].some((key) => has(tree, ['auth', 'token', key]));
  if (has(tree, ['auth', 'token']) && !keys)
    report(['auth', 'token', 'rootcertbundle'], 'nothing', 'a readable file, or jwks instead');
}

/** Who has to have logged in for a grant. */
const loginKeys = ['users', 'groups'] as const;

/** A grant that nobody can use, or that is wider than it looks, is a mistake. */
function checkGrants(tree: Tree, report: Report): void {
  for (const upstream of upstreamPaths(tree)) {
    const grants = at(tree, [...upstream, 'access']);
    if (!Array.isArray(grants)) continue;
    if (upstream.length === 1 && !has(tree, ['proxy', 'remoteurl']))
      report(
        [...upstream, 'access'],
        'no remoteurl beside it',
        'it with a remoteurl, whose content it is about',
      );
    grants.forEach((_, index) => checkGrant(tree, [...upstream, 'access', index], report));
  }
}

function checkGrant(tree: Tree, path: Path, report: Report): void {
  const known = loginKeys.filter((key) => has(tree, [...path, key]));
  const anonymous = isSet(tree, [...path, 'anonymous']);
  if (known.length === 0 && !anonymous && !has(tree, [...path, 'networks']))
    report(path, 'nobody to grant it to', 'users, groups, networks or anonymous');
  for (const key of known) {
    if (anonymous) report([...path, 'anonymous'], `${key} beside it`, `only one of ${key} and anonymous`);
    if (!hasLogin(tree)) report([...path, key], 'no login', 'them with auth or http.tls.clientcas');
  }
  checkGroups(tree, [...path, 'groups'], report);
}

/** A client certificate may name any group; otherwise only those have members that are listed. */
function checkGroups(tree: Tree, path: Path, report: Report): void {
  const named = at(tree, path);
  if (!Array.isArray(named) || usesCertificates(tree)) return;
  const listed = at(tree, ['proxy', 'groups']) ?? {};
  const names = isMap(listed) ? Object.keys(listed) : [];
  named.forEach((name, index) => {
    if (typeof name !== 'string' || names.includes(name)) return;
    const close = nearest(name, names);
    const wanted =
      close === undefined
        ? 'a group of proxy.groups, of which there is none'
        : `a group of proxy.groups; the nearest is ${close}`;
    report([...path, index], JSON.stringify(name), wanted);
  });
}

/** A host is the key of one upstream. */
function checkHosts(tree: Tree, report: Report): void {
  const taken = new Map<string, string>();
  const remote = originHost(textAt(tree, ['proxy', 'remoteurl']));
  const explicit = textAt(tree, ['proxy', 'host']);
  if (explicit !== undefined || remote !== undefined) {
    const name = host.read(explicit ?? dockerHub);
    if (name !== undefined)
      taken.set(name, explicit === undefined ? 'the default of proxy.host' : 'proxy.host');
  }
  if (remote !== undefined && !taken.has(remote)) taken.set(remote, 'proxy.remoteurl');
  for (const index of upstreamsOf(tree).keys()) {
    const path = ['proxy', 'upstreams', index, 'host'];
    const name = host.read(textAt(tree, path) ?? '');
    if (name === undefined) continue;
    const holder = taken.get(name);
    if (holder !== undefined)
      report(path, `"${name}", which is ${holder} already`, 'a host that no other upstream has');
    else taken.set(name, formatPath(path));
  }
}

function originHost(given: string | undefined): string | undefined {
  const url = given === undefined ? undefined : origin.read(given);
  return url === undefined ? undefined : host.read(new URL(url).host);
}

/** A name of this mirror stands for one upstream. */
function checkHostNames(tree: Tree, report: Report): void {
  const taken = new Map<string, string>();
  for (const [index, upstream] of upstreamsOf(tree).entries()) {
    const names = at(upstream, ['hosts']);
    if (!Array.isArray(names)) continue;
    for (const [place, given] of names.entries()) {
      const name = typeof given === 'string' ? plainHost.read(given) : undefined;
      if (name === undefined) continue;
      const path = ['proxy', 'upstreams', index, 'hosts', place];
      const holder = taken.get(name);
      if (holder !== undefined)
        report(path, `"${name}", which is ${holder} already`, 'a name that stands for one upstream');
      else taken.set(name, formatPath(path));
    }
  }
}
