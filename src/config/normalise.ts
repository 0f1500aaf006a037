import { resolve } from 'node:path';
import type {
  AuthConfig,
  ClusterConfig,
  CredentialsConfig,
  Config,
  HelperConfig,
  HttpConfig,
  ProxyConfig,
  RedisConfig,
  S3Config,
  StorageConfig,
  UpstreamConfig,
} from './config.js';
import type { ParsedConfig } from './schema.js';
import { dockerHub, dockerHubAliases, host } from './values.js';

/** From the file's spelling to the one shape that the program works with. Only for a configuration without faults. */
export function normalise(parsed: ParsedConfig, cwd: string, podip: string | undefined): Config {
  const { log, auth, health } = parsed;
  return freeze({
    log: {
      level: log.level ?? parsed.loglevel ?? 'info',
      formatter: log.formatter,
      fields: log.fields,
      accesslog: log.accesslog,
    },
    storage: normaliseStorage(parsed),
    http: normaliseHttp(parsed.http, cwd),
    auth: normaliseAuth(auth),
    health,
    proxy: normaliseProxy(parsed.proxy),
    redis: normaliseRedis(parsed.redis),
    cluster: normaliseCluster(parsed.cluster, podip),
    scheduler: parsed.scheduler,
  });
}

function normaliseAuth(auth: ParsedConfig['auth']): AuthConfig | undefined {
  if (auth?.htpasswd !== undefined) return { htpasswd: auth.htpasswd };
  if (auth?.token === undefined) return undefined;
  const { realm, service, issuer, rootcertbundle, jwks, signingalgorithms } = auth.token;
  return { token: { realm, service, issuer, rootcertbundle, jwks, signingalgorithms } };
}

function normaliseStorage({ storage }: ParsedConfig): StorageConfig {
  const { filesystem, s3, cache } = storage;
  const options = {
    delete: storage.delete,
    redirect: storage.redirect,
    cache: { blobdescriptor: cache.blobdescriptor ?? cache.layerinfo },
  };
  if (s3 !== undefined) return { ...options, driver: 's3', s3: normaliseS3(s3) };
  // The rules have made sure that there is one of them.
  if (filesystem === undefined) throw new TypeError('a configuration without storage');
  return { ...options, driver: 'filesystem', filesystem: { rootdirectory: filesystem.rootdirectory } };
}

function normaliseS3(s3: NonNullable<ParsedConfig['storage']['s3']>): S3Config {
  const { regionendpoint, forcepathstyle, rootdirectory, storageclass } = s3;
  const scheme = s3.secure ? 'https' : 'http';
  return {
    region: s3.region,
    bucket: s3.bucket,
    endpoint:
      regionendpoint === undefined || /^https?:/i.test(regionendpoint)
        ? regionendpoint
        : `${scheme}://${regionendpoint}`,
    forcepathstyle: forcepathstyle ?? regionendpoint !== undefined,
    accesskey: s3.accesskey,
    secretkey: s3.secretkey,
    sessiontoken: s3.sessiontoken,
    accesskeyfile: s3.accesskeyfile,
    secretkeyfile: s3.secretkeyfile,
    sessiontokenfile: s3.sessiontokenfile,
    rootdirectory: rootdirectory.replace(/^\/+|\/+$/g, ''),
    chunksize: s3.chunksize,
    localcopies: s3.localcopies,
    encrypt: s3.encrypt,
    keyid: s3.keyid,
    storageclass: storageclass?.toUpperCase() === 'NONE' ? undefined : storageclass,
    objectacl: s3.objectacl,
    secure: s3.secure,
    skipverify: s3.skipverify,
    ca: s3.ca,
    useragent: s3.useragent,
    accelerate: s3.accelerate,
    usedualstack: s3.usedualstack,
  };
}

function normaliseHttp(http: ParsedConfig['http'], cwd: string): HttpConfig {
  const { net, addr, prefix, headers, draindelay, draintimeout, limits, tls, debug, trustedproxies } = http;
  return {
    net,
    addr: net === 'unix' ? resolve(cwd, addr) : addr,
    prefix: prefix.endsWith('/') ? prefix : `${prefix}/`,
    headers,
    draindelay,
    draintimeout,
    trustedproxies,
    limits: { ...limits, burst: limits.burst ?? (limits.rate ?? 0) * 10 },
    tls:
      tls?.certificate === undefined || tls.key === undefined
        ? undefined
        : {
            certificate: tls.certificate,
            key: tls.key,
            minimumtls: tls.minimumtls,
            clientcas: tls.clientcas,
          },
    debug: debug.addr === undefined ? undefined : { addr: debug.addr, prometheus: debug.prometheus },
  };
}

function normaliseProxy(proxy: ParsedConfig['proxy']): ProxyConfig {
  const { remoteurl, groups, ttl, maxsize, minfree, freshness, maxblobsize, maxtransfers, spool } = proxy;
  const { ranges, siblings } = proxy;
  const name = proxy.host ?? dockerHub;
  return {
    default:
      remoteurl === undefined
        ? undefined
        : {
            host: name,
            aliases: aliasesOf(name, remoteurl),
            hosts: [],
            url: remoteurl,
            ranges,
            siblings,
            ttl,
            ...commonOf(proxy),
          },
    upstreams: proxy.upstreams.map((upstream): UpstreamConfig => ({
      host: upstream.host,
      aliases: aliasesOf(upstream.host),
      hosts: upstream.hosts,
      url: upstream.url,
      ranges: {
        connections: upstream.ranges.connections ?? ranges.connections,
        minsize: upstream.ranges.minsize ?? ranges.minsize,
      },
      siblings: upstream.siblings ?? siblings,
      ttl: upstream.ttl ?? ttl,
      ...commonOf(upstream),
    })),
    dockerconfigjson: proxy.dockerconfigjson,
    groups,
    pullsecrets: proxy.pullsecrets.map(({ namespace, name: secret }) => ({ namespace, name: secret })),
    host: name,
    hostexplicit: proxy.host !== undefined,
    ttl,
    maxsize,
    minfree,
    freshness,
    maxblobsize,
    maxtransfers,
    spool,
  };
}

/** What is said of the default upstream and of the others in the same words. */
function commonOf(
  upstream: ParsedConfig['proxy'] | ParsedConfig['proxy']['upstreams'][number],
): Pick<UpstreamConfig, 'credentials' | 'exec' | 'realms' | 'access' | 'verifycaller' | 'redirects' | 'ca'> {
  const { exec, realms, access, verifycaller, redirects, ca } = upstream;
  return {
    credentials: credentialsOf(upstream),
    exec: helperOf(exec),
    realms,
    access,
    verifycaller,
    redirects,
    ca,
  };
}

type WithCredentials = Pick<ParsedConfig['proxy'], 'username' | 'password' | 'passwordfile' | 'credentials'>;

function credentialsOf({
  username,
  password,
  passwordfile,
  credentials,
}: WithCredentials): CredentialsConfig[] {
  return [...(username === undefined ? [] : [{ username, password, passwordfile }]), ...credentials];
}

function helperOf(exec: ParsedConfig['proxy']['exec']): HelperConfig | undefined {
  return exec && { command: exec.command, lifetime: exec.lifetime };
}

/** Other names for an upstream; the default one is also found by the host of its URL. */
function aliasesOf(name: string, url?: string): string[] {
  const own = url === undefined ? undefined : new URL(url).host;
  const names = own === undefined ? [name] : [name, host.read(own) ?? own];
  const aliases = names.flatMap((each) => (each === dockerHub ? [each, ...dockerHubAliases] : [each]));
  return [...new Set(aliases)].filter((each) => each !== name);
}

function normaliseRedis(redis: ParsedConfig['redis']): RedisConfig | undefined {
  if (redis === undefined) return undefined;
  const { sentinel, addr, tls } = redis;
  const sentinels = sentinel?.addrs ?? [];
  const single = addr === undefined ? [] : [addr];
  const addrs = [redis.addrs, sentinels, single].find((each) => each.length > 0);
  if (addrs === undefined) return undefined;
  const encrypted =
    tls !== undefined && (tls.enabled || tls.certificate !== undefined || tls.clientcas.length > 0);
  return {
    addrs,
    mastername: redis.mastername ?? sentinel?.mastername,
    username: redis.username,
    password: redis.password,
    passwordfile: redis.passwordfile,
    sentinelusername: redis.sentinelusername,
    sentinelpassword: redis.sentinelpassword,
    sentinelpasswordfile: redis.sentinelpasswordfile,
    db: redis.db,
    dialtimeout: redis.dialtimeout,
    readtimeout: redis.readtimeout,
    writetimeout: redis.writetimeout,
    tls: encrypted ? { certificate: tls.certificate, key: tls.key, clientcas: tls.clientcas } : undefined,
  };
}

function normaliseCluster(cluster: ParsedConfig['cluster'], podip: string | undefined): ClusterConfig {
  return {
    addr: cluster.addr,
    advertise: cluster.advertise,
    podip,
    secret: cluster.secret,
    secretfile: cluster.secretfile,
    locktimeout: cluster.locktimeout,
    kubeconfig: cluster.kubeconfig,
  };
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}
