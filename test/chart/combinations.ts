/** What people choose from: each storage, with each way to Redis, with each way in. */
const storages = {
  'one disk': { storage: { volume: { size: '50Gi', storageClass: 'fast' } } },
  'a disk that is there': { storage: { volume: { existingClaim: 'old-registry', subPath: 'data' } } },
  'a shared folder': {
    replicas: 3,
    storage: { volume: { accessMode: 'ReadWriteMany', storageClass: 'cephfs', size: '2Ti' } },
  },
  's3 by a key': {
    replicas: 3,
    storage: {
      type: 's3',
      s3: { bucket: 'b', endpoint: 'https://rgw.example.com', existingSecret: 'rgw', redirect: false },
      spool: { storageClass: 'fast', size: '50Gi' },
    },
  },
  's3 by a role': {
    autoscaling: { enabled: true },
    storage: { type: 's3', s3: { bucket: 'b', region: 'eu-central-1', rootDirectory: '/mirror' } },
    serviceAccount: { annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/mirror' } },
  },
  'nothing that lasts': { storage: { type: 'emptyDir' } },
} as const;

const redis = {
  'no Redis': {},
  'one Redis': { redis: { type: 'existing', addr: 'redis.data.svc:6379', existingSecret: 'redis' } },
  Sentinels: {
    redis: {
      type: 'sentinel',
      sentinels: ['s1:26379', 's2:26379', '[fd00::1]:26379'],
      username: 'mirror',
      existingSecret: 'redis',
      sentinelPasswordKey: 'sentinel',
    },
  },
  'its own Sentinels': { redis: { type: 'bundled' } },
} as const;

const entrances = {
  'no way in': {},
  'an Ingress': {
    ingress: { enabled: true, className: 'nginx', hosts: ['mirror.example.com'], tlsSecret: 'tls' },
  },
  'a route': {
    httpRoute: {
      enabled: true,
      parentRefs: [{ name: 'public', namespace: 'gateways', sectionName: 'https' }],
      hostnames: ['mirror.example.com'],
      timeouts: { request: '0s' },
    },
  },
} as const;

export const combinations = Object.entries(storages).flatMap(([storage, one]) =>
  Object.entries(redis).flatMap(([cache, other]) =>
    Object.entries(entrances).map(
      ([entrance, last]) => [`${storage}, ${cache}, ${entrance}`, { ...one, ...other, ...last }] as const,
    ),
  ),
);

/** Everything that can be turned on. */
export const everything = {
  replicas: 3,
  image: { repository: 'registry.example.com/cistern', digest: `sha256:${'a'.repeat(64)}` },
  imagePullSecrets: ['own-registry'],
  podDisruptionBudget: { maxUnavailable: '34%' },
  storage: { type: 's3', s3: { bucket: 'b', existingSecret: 's3', accessKeyName: 'AWS_ACCESS_KEY_ID' } },
  redis: { type: 'bundled', existingSecret: 'redis', bundled: { priorityClassName: 'high' } },
  clusterSecret: { existingSecret: 'cluster' },
  tls: { existingSecret: 'tls' },
  auth: { htpasswd: { existingSecret: 'users' } },
  secrets: { ghcr: 'ghcr-credentials' },
  config: {
    http: { draindelay: '1m30s', draintimeout: '2m' },
    proxy: {
      maxsize: 500_000_000_000,
      pullsecrets: [{ name: 'pull' }, { name: 'quay' }, { name: 'pull', namespace: 'apps' }],
      upstreams: [
        {
          host: 'ghcr.io',
          url: 'https://ghcr.io',
          username: 'me',
          passwordfile: '/run/secrets/ghcr/password',
        },
      ],
    },
    scheduler: { inuse: { kubernetes: { enabled: true, prewarm: true } } },
  },
  service: {
    type: 'LoadBalancer',
    port: 443,
    nodePort: 30_443,
    externalTrafficPolicy: 'Local',
    annotations: { a: 'b' },
    loadBalancerClass: 'metal',
    loadBalancerSourceRanges: ['10.0.0.0/8'],
  },
  networkPolicy: {
    clients: [{ ipBlock: { cidr: '10.0.0.0/8' } }],
    egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }], ports: [{ port: 443 }] }],
  },
  metrics: {
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
    prometheusRule: { enabled: true, runbooks: 'https://wiki.example.com/cistern' },
    dashboards: { enabled: true, annotations: { 'k8s-sidecar-target-directory': 'Cistern' } },
  },
  antiAffinity: 'hard',
  priorityClassName: 'system-cluster-critical',
  nodeSelector: { 'kubernetes.io/os': 'linux' },
  tolerations: [{ key: 'dedicated', operator: 'Exists' }],
  podAnnotations: { a: 'b' },
  podLabels: { 'azure.workload.identity/use': 'true' },
  extraEnv: [{ name: 'HTTPS_PROXY', value: 'http://proxy:3128' }],
  extraVolumes: [{ name: 'ca', configMap: { name: 'ca' } }],
  extraVolumeMounts: [{ name: 'ca', mountPath: '/ca' }],
  nodes: {
    enabled: true,
    mirror: 'https://mirror.example.com',
    caConfigMap: 'mirror-ca',
    configFolder: '/var/lib/rancher/k3s/agent/etc/containerd',
  },
};
