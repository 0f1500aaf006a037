import { ignored, refused } from './key.js';
import { isMap, type TreeMap } from './tree.js';

const readOnly = 'this is a mirror: nothing is written to it by clients';
const unlocked = 'what guards access is honoured or refused, never ignored';
const notCopied = 'objects are written where they belong, and never copied';
const ownConnections = 'each replica has two connections to Redis, which stay open';
const otherDriver = (name: string) =>
  refused(`the ${name} driver is not supported in this version`, 'filesystem or s3');

/**
 * Registry's keys that do nothing here, with the reason (one warning each), and those that the start is refused
 * with because to ignore them would open what they close or serve something else.
 */
export const legacy = {
  root: {
    middleware: ignored('there are no middlewares to load'),
    reporting: ignored('errors are not reported to third parties; they are in the log and the metrics'),
    notifications: ignored('events are not sent; what happens is in the log and the metrics'),
    catalog: ignored('a page of the catalogue has a limit of its own'),
    compatibility: ignored('schema 1 manifests are not converted; they are served as upstream has them'),
    validation: ignored(`${readOnly}; what is stored is always verified against its digest`),
    policy: ignored(`${readOnly}, so there is nothing to restrict`),
  },
  log: {
    hooks: ignored('mails are not sent from here; alert on the metrics instead'),
    reportcaller: ignored('log lines name what happened, not a line of source code'),
  },
  storage: {
    maintenance: ignored(`${readOnly}, so there are no uploads to purge and no read-only mode to enter`),
    tag: ignored('tags are never looked up by their manifest here'),
    s3aws: refused('it is another name of the s3 driver', 's3, with the same keys'),
    azure: otherDriver('azure'),
    gcs: otherDriver('gcs'),
    swift: otherDriver('swift'),
    oss: otherDriver('oss'),
    inmemory: otherDriver('inmemory'),
  },
  cache: {
    blobdescriptorsize: ignored('descriptors take up to 24 MiB of memory, however many they are'),
  },
  filesystem: {
    maxthreads: ignored('the platform has its own pool of threads (UV_THREADPOOL_SIZE)'),
  },
  s3: {
    v4auth: ignored('requests are always signed with version 4'),
    loglevel: ignored('`log.level` is for all of the log'),
    multipartcopychunksize: ignored(notCopied),
    multipartcopymaxconcurrency: ignored(notCopied),
    multipartcopythresholdsize: ignored(notCopied),
  },
  http: {
    host: ignored('no answer holds an absolute URL of this server'),
    secret: ignored(`${readOnly}, so there is no upload state to sign`),
    relativeurls: ignored('no answer holds an absolute URL of this server'),
    http2: ignored('the server speaks HTTP/1.1'),
    h2c: ignored('the server speaks HTTP/1.1'),
  },
  tls: {
    ciphersuites: ignored('the TLS library has its own list, which no longer holds a weak one'),
    letsencrypt: refused(
      'certificates are not fetched in this version',
      'certificate and key, or a proxy in front',
    ),
  },
  auth: {
    silly: refused(`silly authentication is not supported; ${unlocked}`, 'htpasswd, token or none'),
  },
  token: {
    autoredirect: ignored('clients are always sent to `realm`'),
    autoredirectpath: ignored('clients are always sent to `realm`'),
  },
  redis: {
    maxidleconns: ignored(ownConnections),
    poolsize: ignored(ownConnections),
    connmaxidletime: ignored(ownConnections),
    pool: ignored(ownConnections),
  },
  proxy: {
    remotenamespace: refused('a namespace in front of names is not supported in this version', 'no such key'),
  },
};

/**
 * Writes registry's short forms in full, in place: `storage: filesystem` and `auth: htpasswd` name a type without
 * parameters, as does a type with nothing behind it; `auth: none` is no section.
 */
export function unfold(tree: TreeMap): void {
  for (const key of ['storage', 'auth']) {
    const given = tree[key];
    const section = typeof given === 'string' && given.trim() !== '' ? { [given]: {} } : given;
    if (!isMap(section)) continue;
    for (const [type, parameters] of Object.entries(section)) if (parameters === null) section[type] = {};
    tree[key] = section;
  }
  const { auth } = tree;
  if (!isMap(auth)) return;
  const open = Object.keys(auth).filter((type) => type.toLowerCase() === 'none');
  for (const type of open) delete auth[type];
  if (open.length > 0 && Object.keys(auth).length === 0) delete tree['auth'];
}
