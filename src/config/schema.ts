import type { z } from 'zod';
import {
  commaList,
  defaulted,
  entries,
  guard,
  headers,
  list,
  lists,
  map,
  optional,
  optionalSection,
  ours,
  required,
  secretHeaders,
  section,
  sectionOf,
} from './key.js';
import { legacy } from './legacy.js';
import { schedule } from './schedule.js';
import {
  address,
  atLeast,
  certificatesFile,
  count,
  duration,
  endpoint,
  file,
  filledFile,
  flag,
  host,
  htpasswdFile,
  image,
  kubernetesLabel,
  kubernetesName,
  lifetime,
  memberName,
  network,
  plainHost,
  oneOf,
  orIfZero,
  origin,
  partSize,
  path,
  platform,
  remoteAddress,
  repositoryPattern,
  secret,
  signingAlgorithm,
  size,
  text,
  time,
  tlsVersion,
  url,
  urlPath,
  userName,
} from './values.js';

const level = oneOf('error', 'warn', 'info', 'debug');
const descriptorCache = oneOf('inmemory', 'redis');

const log = section('What is written to the log.', {
  level: optional(level, 'The least serious lines that are written; `info` without it.'),
  formatter: defaulted(oneOf('text', 'json', 'logstash'), 'text', 'The form of a line.'),
  fields: map(text, 'Added to every line.'),
  accesslog: section('The line for each request.', {
    disabled: defaulted(flag, 'false', 'Leaves those lines out.'),
  }),
  ...legacy.log,
});

const again = 'read again when it changes';

const s3 = optionalSection('A bucket of S3 or a server that speaks it; all replicas share it.', {
  region: required(text, 'Its region; any name for a server that has none.'),
  bucket: required(text, 'Its name; a cache that registry left there is used as it is.'),
  regionendpoint: optional(endpoint, "A server other than Amazon's: a URL, or `HOST:PORT`."),
  forcepathstyle: optional(
    flag,
    'Puts the bucket into the path and not into the host name; `true` with a `regionendpoint`, else `false`.',
  ),
  accesskey: optional(
    secret,
    "The access key; without it the usual places are tried: environment, profile, the machine's role.",
  ),
  accesskeyfile: optional(filledFile, `A file that holds the access key instead; ${again}.`, ours),
  secretkey: optional(secret, 'The secret that goes with it.'),
  secretkeyfile: optional(filledFile, `A file that holds the secret instead; ${again}.`, ours),
  sessiontoken: optional(secret, 'The token of temporary credentials.'),
  sessiontokenfile: optional(filledFile, `A file that holds the token instead; ${again}.`, ours),
  rootdirectory: defaulted(text, '/', 'What stands before the keys.'),
  chunksize: defaulted(partSize, '10MiB', 'The size of the parts in which large blobs are sent.'),
  localcopies: defaulted(
    size,
    '5GB',
    "How much of this replica's own disk copies of blobs may take, where blobs go through the mirror (`redirect.disable`): beside the spools, never more than is left free there. 0: none.",
    ours,
  ),
  encrypt: defaulted(
    flag,
    'false',
    'Has the server encrypt what it keeps.',
    guard('the server need not encrypt'),
  ),
  keyid: optional(text, 'The KMS key for that.'),
  storageclass: optional(text, 'The storage class of objects; `NONE` leaves it to the server.'),
  objectacl: optional(text, 'The canned ACL of objects; without it the bucket decides.'),
  secure: defaulted(flag, 'true', 'Uses HTTPS where `regionendpoint` does not say.'),
  skipverify: defaulted(flag, 'false', "Does not check the server's certificate."),
  ca: optional(file, "Certificates in PEM to trust for it, besides the system's. Read at the start.", ours),
  useragent: optional(text, "Added to the client's name."),
  accelerate: defaulted(flag, 'false', "Uses Amazon's transfer acceleration."),
  usedualstack: defaulted(flag, 'false', "Uses Amazon's addresses for IPv6 as well."),
  ...legacy.s3,
});

const storage = section(
  'Where content is kept: exactly one driver, and what goes with it.',
  {
    filesystem: optionalSection('Files, on a local disk or on a folder that the replicas share.', {
      rootdirectory: defaulted(
        path,
        '/var/lib/registry',
        'The folder; a cache that registry left there is used as it is.',
      ),
      ...legacy.filesystem,
    }),
    s3,
    cache: section('What is remembered of blobs, so that storage is asked less.', {
      blobdescriptor: optional(descriptorCache, 'Where descriptors are remembered.'),
      layerinfo: optional(descriptorCache, 'The old spelling of `blobdescriptor`.'),
      ...legacy.cache,
    }),
    delete: section('Deletion of content.', {
      enabled: defaulted(
        flag,
        'false',
        'Allows it: to `proxy.ttl`, `proxy.maxsize` and `proxy.minfree`, and to jobs that remove what nothing needs.',
      ),
    }),
    redirect: section('Redirects of clients to the storage itself, where the driver can.', {
      disable: defaulted(flag, 'false', 'Sends every byte through this server instead.'),
    }),
    ...legacy.storage,
  },
  { unknown: 'fault' },
);

const aSecond = atLeast(1_000, duration, 'a duration from 1s to 596h, such as 30s');

const plainHttp = 'the server should speak plain HTTP';

const http = section('The server.', {
  addr: defaulted(text, ':5000', 'Where it listens: `HOST:PORT`, or the path of a socket with `net: unix`.'),
  net: defaulted(oneOf('tcp', 'unix'), 'tcp', 'The kind of socket.'),
  prefix: defaulted(urlPath, '/', 'The path in front of `/v2/`.'),
  headers: headers('Added to every answer.'),
  draintimeout: defaulted(duration, '60s', 'How long open requests may go on after the drain delay.'),
  draindelay: defaulted(
    duration,
    '20s',
    'How long new requests are still taken after SIGTERM, while `/readyz` says 503 already.',
    ours,
  ),
  trustedproxies: list(
    network,
    'Proxies in front. Only what they add to `X-Forwarded-For` is believed about the address of a client.',
    guard('there is no proxy in front', ours),
  ),
  limits: section(
    'What clients may take of this server.',
    {
      requests: defaulted(
        count(1),
        '4096',
        'Maximum concurrent requests, excluding those served from memory. Further requests get 503 with `Retry-After`. An address (for IPv6: a /64 network) or a user may hold at most as many as are free: one alone gets half of them, two get a third each. All clients behind a proxy that is missing in `trustedproxies` share one address.',
        ours,
      ),
      connections: defaulted(
        count(1),
        '16384',
        'Maximum open connections. The server closes further connections at once. An address may hold a share of them, as for `requests`. For a proxy in `trustedproxies` only the total counts.',
        ours,
      ),
      rate: optional(
        count(1),
        'Requests that an address may make in a second, on average. More get 503, or 429 where the client named an upstream that it can only reach through this mirror. No limit without it.',
        guard('an address may make any number of requests', ours),
      ),
      burst: optional(count(1), 'How many of them may come at once; ten times `rate` without it.', ours),
      headersize: defaulted(
        atLeast(4096, size, 'a size of 4KiB or more'),
        '16KiB',
        "A request's line and headers together. Longer ones get 431.",
        ours,
      ),
      urlsize: defaulted(
        atLeast(1024, size, 'a size of 1KiB or more'),
        '4KiB',
        "A request's path and query. Longer ones get 414.",
        ours,
      ),
      headertimeout: defaulted(
        aSecond,
        '30s',
        'For sending them, from the first byte on, or from the connection on.',
        ours,
      ),
      readtimeout: defaulted(
        aSecond,
        '5m',
        'A client that takes no byte of its answer for so long is cut, after twice as long at the latest.',
        ours,
      ),
      idletimeout: defaulted(
        aSecond,
        '2m',
        'When a connection without a request is closed. Longer than that of the load balancer in front, so that it closes first.',
        ours,
      ),
    },
    { unknown: 'fault', ...ours },
  ),
  tls: optionalSection(
    'HTTPS.',
    {
      certificate: optional(file, 'The certificate and its chain, in PEM.', guard(plainHttp)),
      key: optional(file, 'Its private key, in PEM.', guard(plainHttp)),
      minimumtls: optional(tlsVersion, 'The oldest version that is spoken; `tls1.2` without it.'),
      clientcas: list(
        certificatesFile,
        'Certificates in PEM. With them every client, health checks too, needs a certificate that one of them vouches for; its common name is the user.',
        guard('clients need no certificate'),
      ),
      clientauth: optional(
        oneOf('require-and-verify-client-cert'),
        'What `clientcas` means in any case: other policies are not supported.',
        guard('`clientcas` alone decides'),
      ),
      ...legacy.tls,
    },
    guard(plainHttp),
  ),
  debug: section('A second server, for operators alone.', {
    addr: optional(address, 'Where it listens; without it there is none.'),
    prometheus: section('Metrics, on that server.', {
      enabled: defaulted(flag, 'false', 'Serves them.'),
      path: defaulted(urlPath, '/metrics', 'Where.'),
    }),
  }),
  ...legacy.http,
});

const guarded = guard('another method of `auth` is used');

const auth = optionalSection(
  'Who may pull: one of these, or `none`.',
  {
    htpasswd: optionalSection('User names and bcrypt hashes from a file.', {
      realm: required(text, 'What clients show when they ask for the password.', guarded),
      path: required(htpasswdFile, 'The file, as `htpasswd -B` writes it.', guarded),
    }),
    token: optionalSection(
      'Tokens that a token service gives out (JWT, by the registry token specification).',
      {
        realm: required(url, 'Where clients get them.', guarded),
        service: required(text, 'The name of this mirror there; a token must be for it (`aud`).', guarded),
        issuer: required(text, 'Who must have issued them (`iss`).', guarded),
        rootcertbundle: optional(
          certificatesFile,
          'Certificates in PEM: their keys sign tokens, as do those of certificates that they vouch for. Read again when it changes.',
          guard('the keys are in `jwks`'),
        ),
        jwks: optional(
          filledFile,
          'Keys that sign tokens (RFC 7517, public ones). Read again when it changes.',
          guard('the keys are in `rootcertbundle`'),
        ),
        signingalgorithms: list(
          signingAlgorithm,
          'How tokens may be signed; without it, all of these ways.',
          guard('tokens may be signed by any of these algorithms'),
        ),
        ...legacy.token,
      },
    ),
    ...legacy.auth,
  },
  { unknown: 'refusal', ...guard('everybody may pull (or write `none`)') },
);

const periodic = {
  interval: defaulted(orIfZero(duration, 10_000), '10s', 'The time between two checks.'),
  threshold: defaulted(orIfZero(count(), 1), '1', 'How many failures in a row count as one.'),
};

const health = section('Checks. Their results are at `/debug/health` of the debug server.', {
  storagedriver: section('Of the storage.', {
    enabled: defaulted(flag, 'false', 'Makes the check.'),
    ...periodic,
  }),
  file: entries(
    'Of files: the check fails while the file exists.',
    { file: required(path, 'The file.'), ...periodic },
    { env: 'FILECHECKERS' },
  ),
  http: entries(
    'Of HTTP servers, by HEAD.',
    {
      uri: required(url, 'What is asked.'),
      headers: secretHeaders('Sent along.'),
      statuscode: defaulted(count(100, 599), '200', 'What it must answer.'),
      timeout: defaulted(orIfZero(duration, 3000), '3s', 'When it counts as failed.'),
      ...periodic,
    },
    { env: 'HTTPCHECKERS' },
  ),
  tcp: entries(
    'Of TCP servers, by connecting.',
    {
      addr: required(remoteAddress, 'Where.'),
      timeout: defaulted(orIfZero(duration, 3000), '3s', 'When it counts as failed.'),
      ...periodic,
    },
    { env: 'TCPCHECKERS' },
  ),
});

const credentials = {
  username: optional(text, 'Who this mirror is to that upstream.'),
  password: optional(secret, 'Its password or token.'),
};
const passwordfile = optional(filledFile, `A file that holds the password instead; ${again}.`, ours);
const helperCommand = 'The program, without arguments: its path, or a name to be found in PATH.';
const helperLifetime =
  'How long its answer is used, of which the last part while the next one is asked for; `0` for one request alone. Without it: until the upstream refuses the answer.';
const helper =
  "A credential helper by Docker's protocol in the place of a password: it is run with `get`, and given the upstream's host on standard input.";
const furtherCredentials = entries(
  'Further credentials, used in their order while those before are refused or their pull limit is used up. Refused ones are tried again after 5 minutes.',
  {
    username: required(text, 'Who this mirror is to that upstream then.', ours),
    password: optional(secret, 'Its password or token.', ours),
    passwordfile,
  },
  { unknown: 'fault', ...ours },
);
const realms = list(
  plainHost,
  'Further hosts whose token service may be given the credentials.',
  guard('only hosts of its own domain may get the credentials', ours),
);
const redirects = list(
  plainHost,
  'Hosts that its redirects may lead to on any address. Others only on one that is no further inside than its own: public, private, loopback, link-local.',
  guard('no host needs this', ours),
);
const verifycaller = defaulted(
  flag,
  'false',
  'Asks it, with the credential that the client sends, whether that client may read; a yes holds for 5 minutes.',
  guard('the upstream should not be asked', ours),
);
const access = entries(
  'Who may pull what of it: whatever one of these grants. Without any, whoever was let in by `auth` may pull all of it.',
  {
    users: list(
      userName,
      'These may, once they logged in; `*` is whoever did.',
      guard('the grant names no users', ours),
    ),
    groups: list(
      memberName,
      'Members of these may, once they logged in: of `proxy.groups`, or of the organisations (`O`) that a client certificate names.',
      guard('the grant names no groups', ours),
    ),
    anonymous: defaulted(flag, 'false', 'Everybody may, without a login.', ours),
    networks: list(
      network,
      'From these addresses. Without `users` and `groups`, everybody there may, and is never asked for a login (dockerd has none for a mirror of Docker Hub), nor verified by `verifycaller`.',
      guard('the address does not matter', ours),
    ),
    repositories: list(
      repositoryPattern,
      "By the upstream's own names: `library/alpine`, `team/*` for all below; all without it.",
      guard('the grant is for all repositories', ours),
    ),
  },
  { unknown: 'fault', ...guard('everybody whom `auth` admits may pull everything', ours) },
);
const someBytes = atLeast(1, size, 'a size above 0, such as 500GB');
const ca = optional(file, `Certificates in PEM to trust for it, besides the system's; ${again}.`, ours);

const connections = count(1, 16);
const rangesText =
  'A large blob over several connections, in parts that are requested beside each other: for upstreams that limit each connection. Needs up to 4 MiB of memory for each, 64 MiB in all.';

const proxy = section(
  'What is mirrored. Without `remoteurl` and `upstreams`, what is stored is served and nobody is asked.',
  {
    remoteurl: optional(origin, 'The default upstream.'),
    ...credentials,
    passwordfile,
    exec: optionalSection(helper, {
      command: required(text, helperCommand),
      lifetime: optional(time, helperLifetime),
    }),
    credentials: furtherCredentials,
    dockerconfigjson: optional(
      file,
      `A file with credentials by host (\`auths\`), as \`docker login\` and Kubernetes write it, for upstreams without any of their own; ${again}.`,
      ours,
    ),
    pullsecrets: entries(
      "Kubernetes' Secrets with such a file (type `kubernetes.io/dockerconfigjson`), in its place: watched, and used as they are now. The first that has a host counts for it.",
      {
        namespace: optional(
          kubernetesLabel,
          'Where the Secret is; without it, where the kubeconfig or the Pod of this mirror is.',
          ours,
        ),
        name: required(kubernetesName, 'What it is called.', ours),
      },
      { unknown: 'fault', ...ours },
    ),
    realms,
    groups: lists(
      memberName,
      'Users by the names of their groups, for `access`: `{devs: [ann, bob]}`.',
      guard('no grant names such a group', ours),
    ),
    access,
    verifycaller,
    redirects,
    ca,
    ttl: defaulted(lifetime, '168h', 'How long content is kept after its last use; `0` for ever.'),
    host: optional(host, 'What the default upstream stands for; `docker.io` without it.', ours),
    freshness: defaulted(
      duration,
      '60s',
      'How long a tag is served without asking its upstream again.',
      ours,
    ),
    maxsize: optional(someBytes, 'The least recently used content goes when there is more than this.', ours),
    minfree: optional(
      someBytes,
      'The same when less than this is free on the file system of the root directory.',
      ours,
    ),
    maxblobsize: optional(someBytes, 'Larger blobs are neither fetched nor served.', ours),
    maxtransfers: defaulted(
      count(1),
      '256',
      'Blobs that are fetched at a time. More get 503, and `Retry-After`.',
      ours,
    ),
    ranges: section(
      rangesText,
      {
        connections: defaulted(connections, '1', 'How many, at most 16; with 1 blobs are not divided.', ours),
        minsize: defaulted(
          someBytes,
          '16MiB',
          'A blob of which less is to be fetched comes over one connection.',
          ours,
        ),
      },
      { unknown: 'fault', ...ours },
    ),
    siblings: defaulted(
      flag,
      'false',
      "When a client gets an image's manifest, the layers that it names are fetched without waiting for the client to ask for them: by at most a quarter of `maxtransfers`, not while little is left of the upstream's pull limit.",
      ours,
    ),
    spool: section(
      'Where blobs are kept while they are fetched.',
      {
        directory: optional(
          path,
          'The folder; without it `cistern/spool` under the root directory, with S3 `/var/lib/registry/spool`.',
          ours,
        ),
        maxsize: defaulted(size, '20GB', 'The most that spools may take together.', ours),
      },
      { unknown: 'fault', ...ours },
    ),
    upstreams: entries(
      'Further upstreams.',
      {
        host: required(host, 'What images call it: `ghcr.io` in `ghcr.io/owner/image`.', ours),
        url: required(origin, 'Where it is.', ours),
        hosts: list(plainHost, 'Host names of this mirror that stand for it.', ours),
        username: optional(text, 'Who this mirror is to that upstream.', ours),
        password: optional(secret, 'Its password or token.', ours),
        passwordfile,
        exec: optionalSection(
          helper,
          { command: required(text, helperCommand, ours), lifetime: optional(time, helperLifetime, ours) },
          { unknown: 'fault', ...ours },
        ),
        credentials: furtherCredentials,
        realms,
        access,
        verifycaller,
        redirects,
        ca,
        ranges: section(
          rangesText,
          {
            connections: optional(
              connections,
              'As `proxy.ranges.connections`, which it is without it.',
              ours,
            ),
            minsize: optional(someBytes, 'As `proxy.ranges.minsize`, which it is without it.', ours),
          },
          { unknown: 'fault', ...ours },
        ),
        siblings: optional(flag, 'As `proxy.siblings`, which it is without it.', ours),
        ttl: optional(
          lifetime,
          'How long its content is kept after its last use; `proxy.ttl` without it.',
          ours,
        ),
      },
      { unknown: 'fault', ...ours },
    ),
    ...legacy.proxy,
  },
);

const plainRedis = 'Redis does not use TLS';
const noCertificate = 'Redis requires no client certificate';

const redis = optionalSection('A Redis, by the keys of registry 2 (`addr`) or 3 (`addrs`, `mastername`).', {
  addr: optional(remoteAddress, 'Where it is.'),
  addrs: commaList(remoteAddress, 'Where it is, or its Sentinels are.'),
  mastername: optional(text, 'The name of the master, which the Sentinels are asked for.'),
  username: optional(text, 'A Redis user.'),
  password: optional(secret, 'Its password.'),
  passwordfile: optional(
    filledFile,
    `A file that holds the password instead; ${again} and a connection is made.`,
    ours,
  ),
  sentinelusername: optional(text, 'A user of the Sentinels.'),
  sentinelpassword: optional(secret, 'Its password.'),
  sentinelpasswordfile: optional(
    filledFile,
    `A file that holds that password instead; ${again} and a connection is made.`,
    ours,
  ),
  sentinel: optionalSection('Another spelling of `mastername` and `addrs`.', {
    mastername: optional(text, 'As `redis.mastername`.'),
    addrs: commaList(remoteAddress, 'As `redis.addrs`.'),
  }),
  db: defaulted(count(), '0', 'The number of the database.'),
  dialtimeout: optional(duration, 'For connecting.'),
  readtimeout: optional(duration, 'For an answer.'),
  writetimeout: optional(duration, 'For sending.'),
  tls: optionalSection(
    'Encryption.',
    {
      enabled: defaulted(flag, 'false', 'Registry 2: uses TLS.', guard(plainRedis)),
      certificate: optional(file, 'Registry 3: a client certificate, in PEM.', guard(noCertificate)),
      key: optional(file, 'Its private key, in PEM.', guard(noCertificate)),
      clientcas: list(
        certificatesFile,
        'Certificates in PEM to trust.',
        guard("the system's certificates suffice"),
      ),
    },
    guard(plainRedis),
  ),
  ...legacy.redis,
});

const ownSecret = 'the replicas should create one in the storage';

const cluster = section(
  'How replicas talk to each other, where there is a `redis` section.',
  {
    addr: defaulted(address, ':5002', 'Where this one listens for the others.', ours),
    advertise: optional(
      origin,
      'Where the others reach it. Default: the host of `addr`, the variable POD_IP, the address from which Redis is reached.',
      ours,
    ),
    secret: optional(
      secret,
      'What they know each other by. Default: made once, in the storage.',
      guard(ownSecret, ours),
    ),
    secretfile: optional(
      filledFile,
      `A file that holds the secret instead; ${again}, and the one before it counts for an hour more.`,
      guard(ownSecret, ours),
    ),
    locktimeout: defaulted(duration, '250ms', 'The budget of a lock.', ours),
    kubeconfig: optional(
      file,
      'How the API of Kubernetes is reached, by `proxy.pullsecrets` and `scheduler.inuse.kubernetes`; without it, by the service account of the Pod.',
      ours,
    ),
  },
  { unknown: 'fault', ...ours },
);

const jobSection = { unknown: 'fault', ...ours } as const;
const when = (usual: string) =>
  defaulted(schedule, usual, 'When: a duration, a cron expression (local time), or `never`.', ours);

const scheduler = section(
  'Jobs, each done by one replica for all of them.',
  {
    enabled: defaulted(flag, 'true', 'Runs them; commands may do their work all the same.', ours),
    grace: defaulted(
      atLeast(1_000, duration, 'a duration from 1s to 596h, such as 15m'),
      '15m',
      'What was used, stored or hidden within this time is not deleted.',
      ours,
    ),
    expire: section('Removes what was not used for `proxy.ttl`.', { schedule: when('10m') }, jobSection),
    evict: section(
      'Removes the least recently used when there is more than `proxy.maxsize`, or less free than `proxy.minfree`.',
      { schedule: when('5m') },
      jobSection,
    ),
    reindex: section(
      'Looks through the storage, and tells Redis what is there.',
      { schedule: when('24h') },
      jobSection,
    ),
    sweep: section(
      'Removes uploads that never ended, and links and content that lead nowhere.',
      { schedule: when('24h') },
      jobSection,
    ),
    scrub: section(
      'Reads all content again, and removes what is not what its digest says.',
      {
        schedule: when('168h'),
        rate: defaulted(someBytes, '20MB', 'How much of it in a second, at most.', ours),
      },
      jobSection,
    ),
    prewarm: section(
      'Fetches images before anybody asks for them.',
      {
        schedule: when('24h'),
        images: entries(
          'Which.',
          {
            image: required(image, 'As in `docker pull`: `alpine:3`, `ghcr.io/owner/image:v1`.', ours),
            platforms: list(
              platform,
              'For which of its platforms, such as `linux/amd64`; all without it.',
              ours,
            ),
          },
          jobSection,
        ),
      },
      jobSection,
    ),
    inuse: section(
      'What runs somewhere is neither expired nor evicted.',
      {
        keep: defaulted(
          atLeast(3_600_000, time, 'a duration of 1h or more, such as 168h'),
          '168h',
          'How long what was last seen running stays while nobody can be asked.',
          ours,
        ),
        kubernetes: section(
          'Images of Pods that have not ended.',
          {
            enabled: defaulted(flag, 'false', 'Watches them; `cluster.kubeconfig` says where.', ours),
            namespaces: list(kubernetesLabel, 'In these namespaces; in all without it.', ours),
            prewarm: defaulted(
              flag,
              'false',
              "Fetches an image when a Pod comes with it, for the platforms of the cluster's nodes.",
              ours,
            ),
          },
          jobSection,
        ),
        docker: section(
          "Images of a Swarm's services and tasks, and of containers where the engine is in no Swarm.",
          {
            socket: optional(
              path,
              'The socket of the Docker API, such as `/var/run/docker.sock`; without it nobody is asked. In a Swarm, that of a manager.',
              ours,
            ),
            interval: defaulted(aSecond, '30s', 'How often it is asked.', ours),
            prewarm: defaulted(
              flag,
              'false',
              "Fetches an image when a service comes with it, for the platforms of the Swarm's nodes.",
              ours,
            ),
          },
          jobSection,
        ),
      },
      jobSection,
    ),
  },
  jobSection,
);

/** Every key there is: its type, default, meaning, and whether it is registry's or ours. */
export const schema = section('', {
  version: required(oneOf('0.1'), 'The version of the format.'),
  log,
  loglevel: optional(level, 'The old spelling of `log.level`.'),
  storage,
  http,
  auth,
  health,
  proxy,
  redis,
  cluster,
  scheduler,
  ...legacy.root,
});

/** What is known of its keys. */
export const root = sectionOf(schema);

/** The configuration as the file has it, with types and defaults. */
export type ParsedConfig = z.output<typeof schema>;
