import type { ParsedConfig } from './schema.js';
import type { Secret } from './secret.js';
import type { Network, SigningAlgorithm, TlsVersion } from './values.js';

/** The whole configuration, checked and frozen. Classes are given their own section of it. Times are milliseconds, sizes bytes. */
export interface Config {
  readonly log: LogConfig;
  readonly storage: StorageConfig;
  readonly http: HttpConfig;
  /** `undefined`: whoever reaches the server may pull. */
  readonly auth: AuthConfig | undefined;
  readonly health: HealthConfig;
  readonly proxy: ProxyConfig;
  readonly redis: RedisConfig | undefined;
  readonly cluster: ClusterConfig;
  readonly scheduler: SchedulerConfig;
}

type Frozen<T> = T extends (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends Secret
    ? T
    : T extends object
      ? { readonly [Key in keyof T]: Frozen<T[Key]> }
      : T;

export interface LogConfig {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  readonly formatter: 'text' | 'json' | 'logstash';
  readonly fields: Readonly<Record<string, string>>;
  readonly accesslog: { readonly disabled: boolean };
}

export type StorageConfig = StorageOptions & (FilesystemStorage | S3Storage);

export interface FilesystemStorage {
  readonly driver: 'filesystem';
  /** Absolute. */
  readonly filesystem: { readonly rootdirectory: string };
}

export interface S3Storage {
  readonly driver: 's3';
  readonly s3: S3Config;
}

export interface S3Config {
  readonly region: string;
  readonly bucket: string;
  /** A URL; `undefined`: Amazon's own, by region. */
  readonly endpoint: string | undefined;
  readonly forcepathstyle: boolean;
  /** Without both: the environment, a profile, or the machine's role. */
  readonly accesskey: Secret | undefined;
  readonly secretkey: Secret | undefined;
  readonly sessiontoken: Secret | undefined;
  /** Files that hold them instead; absolute. */
  readonly accesskeyfile?: string | undefined;
  readonly secretkeyfile?: string | undefined;
  readonly sessiontokenfile?: string | undefined;
  /** What stands before every key; without slashes at its ends, and empty for none. */
  readonly rootdirectory: string;
  readonly chunksize: number;
  /** Bytes; 0: none. */
  readonly localcopies: number;
  readonly encrypt: boolean;
  readonly keyid: string | undefined;
  readonly storageclass: string | undefined;
  readonly objectacl: string | undefined;
  readonly secure: boolean;
  readonly skipverify: boolean;
  /** A PEM file, absolute. */
  readonly ca?: string | undefined;
  readonly useragent: string | undefined;
  readonly accelerate: boolean;
  readonly usedualstack: boolean;
}

export interface StorageOptions {
  readonly delete: { readonly enabled: boolean };
  readonly redirect: { readonly disable: boolean };
  readonly cache: { readonly blobdescriptor: 'inmemory' | 'redis' | undefined };
}

export interface HttpConfig {
  readonly net: 'tcp' | 'unix';
  /** For `tcp` what parseListen reads; for `unix` an absolute path. */
  readonly addr: string;
  /** What stands before `v2/`; begins and ends with a slash. */
  readonly prefix: string;
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly draindelay: number;
  readonly draintimeout: number;
  /** Whose `X-Forwarded-For` is believed. */
  readonly trustedproxies: readonly Network[];
  readonly limits: HttpLimits;
  readonly tls: TlsConfig | undefined;
  readonly debug: DebugConfig | undefined;
}

/** What clients may take of the server. `rate` is in requests a second; `undefined`: as many as come. */
export interface HttpLimits {
  readonly requests: number;
  readonly connections: number;
  readonly rate: number | undefined;
  readonly burst: number;
  readonly headersize: number;
  readonly urlsize: number;
  readonly headertimeout: number;
  readonly readtimeout: number;
  readonly idletimeout: number;
}

/** Paths of PEM files, absolute. */
export interface TlsConfig {
  readonly certificate: string;
  readonly key: string;
  /** As Node's `minVersion` has it. */
  readonly minimumtls: TlsVersion | undefined;
  /** None: clients need no certificate. */
  readonly clientcas: readonly string[];
}

export interface DebugConfig {
  readonly addr: string;
  readonly prometheus: { readonly enabled: boolean; readonly path: string };
}

/** One of them. */
export interface AuthConfig {
  readonly htpasswd?: { readonly realm: string; readonly path: string };
  readonly token?: TokenConfig;
}

/** Paths are absolute; one of them is there. */
export interface TokenConfig {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  readonly rootcertbundle: string | undefined;
  readonly jwks: string | undefined;
  /** None: all that are known. */
  readonly signingalgorithms: readonly SigningAlgorithm[];
}

/** Who may pull what of an upstream. It names users, groups, networks, or everybody. */
export interface GrantConfig {
  /** `*`: whoever logged in. */
  readonly users: readonly string[];
  readonly groups: readonly string[];
  readonly anonymous: boolean;
  readonly networks: readonly Network[];
  /** None: all. */
  readonly repositories: readonly string[];
}

export type HealthConfig = Frozen<ParsedConfig['health']>;

export interface ProxyConfig {
  /** From `remoteurl`. */
  readonly default: UpstreamConfig | undefined;
  /** The others. */
  readonly upstreams: readonly UpstreamConfig[];
  /** Credentials by host, for upstreams that have neither `credentials` nor `exec`. A JSON file, absolute. */
  readonly dockerconfigjson?: string | undefined;
  /** Members by the name of their group. */
  readonly groups: Readonly<Record<string, readonly string[]>>;
  /** The same in Kubernetes' Secrets; none beside a file. */
  readonly pullsecrets: readonly SecretName[];
  /** What the tree without a prefix stands for: also where there is no default upstream. */
  readonly host: string;
  /** Whether the file says so, or it is the default. */
  readonly hostexplicit: boolean;
  /** Since the last use; 0: for ever. Also of what is stored of upstreams that are configured no longer. */
  readonly ttl: number;
  readonly maxsize: number | undefined;
  /** On a filesystem alone. */
  readonly minfree: number | undefined;
  readonly freshness: number;
  readonly maxblobsize: number | undefined;
  readonly maxtransfers: number;
  /** Without a directory: in the store, where that is a folder. */
  readonly spool: { readonly directory: string | undefined; readonly maxsize: number };
}

export interface UpstreamConfig {
  /** The look-up key: `docker.io`, `ghcr.io`, `registry.local:5000`. */
  readonly host: string;
  /** Other look-up keys for it. */
  readonly aliases: readonly string[];
  /** Host names of this mirror that stand for it. */
  readonly hosts: readonly string[];
  /** An origin, without a slash at its end. */
  readonly url: string;
  /** In the order of their use; none: anonymous. */
  readonly credentials: readonly CredentialsConfig[];
  /** A program that is asked for credentials; used before `credentials`. */
  readonly exec?: HelperConfig | undefined;
  /** Hosts, besides those of its own domain, whose token service may be given the credentials. */
  readonly realms: readonly string[];
  /** None: whoever was let in may pull all of it. */
  readonly access: readonly GrantConfig[];
  /** Whether it is asked who may read there, with the credential of whoever asks here. */
  readonly verifycaller: boolean;
  /** Hosts that may be redirected to wherever they are. */
  readonly redirects: readonly string[];
  /** A PEM file, absolute. */
  readonly ca?: string | undefined;
  /** Blobs of which at least `minsize` bytes are missing come over so many connections; 1: over one. */
  readonly ranges: { readonly connections: number; readonly minsize: number };
  /** Whether an image's layers are fetched as soon as a client gets its manifest. */
  readonly siblings: boolean;
  /** As `proxy.ttl`, which it is where nothing else is said. */
  readonly ttl: number;
}

/** Of a Secret in Kubernetes. */
export interface SecretName {
  /** `undefined`: where this mirror is. */
  readonly namespace: string | undefined;
  readonly name: string;
}

export interface HelperConfig {
  readonly command: string;
  /** 0: for one request; `undefined`: until it is refused. */
  readonly lifetime: number | undefined;
}

/** One of `password` and `passwordfile`. */
export interface CredentialsConfig {
  readonly username: string;
  readonly password: Secret | undefined;
  /** Absolute. */
  readonly passwordfile: string | undefined;
}

/** Both of registry's spellings, as one. */
export interface RedisConfig {
  /** One Redis, or with `mastername` its Sentinels. */
  readonly addrs: readonly string[];
  readonly mastername: string | undefined;
  readonly username: string | undefined;
  readonly password: Secret | undefined;
  /** A file that holds it instead, as below; absolute. */
  readonly passwordfile?: string | undefined;
  readonly sentinelusername: string | undefined;
  readonly sentinelpassword: Secret | undefined;
  readonly sentinelpasswordfile?: string | undefined;
  readonly db: number;
  readonly dialtimeout: number | undefined;
  readonly readtimeout: number | undefined;
  readonly writetimeout: number | undefined;
  readonly tls:
    | {
        readonly certificate: string | undefined;
        readonly key: string | undefined;
        readonly clientcas: readonly string[];
      }
    | undefined;
}

export interface ClusterConfig {
  readonly addr: string;
  /** An origin; without it, worked out from what follows. */
  readonly advertise: string | undefined;
  /** The environment's POD_IP. */
  readonly podip: string | undefined;
  readonly secret: Secret | undefined;
  /** Absolute. */
  readonly secretfile: string | undefined;
  readonly locktimeout: number;
  /** How Kubernetes' API is reached, absolute; `undefined`: as the Pod's service account. */
  readonly kubeconfig?: string | undefined;
}

export type SchedulerConfig = Frozen<ParsedConfig['scheduler']>;

/** An image to fetch ahead. No platforms: all that it has. */
export type PrewarmImage = SchedulerConfig['prewarm']['images'][number];
