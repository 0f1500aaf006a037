import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { copies } from '../../scripts/chart-readme.js';
import { readCommandLine, type Invocation } from '../../src/cli/program.js';
import { combinations, everything } from './combinations.js';
import { findHelm, type KubernetesObject } from './helm.js';
import { faultsOf, kubernetesVersions } from './kubernetes-schemas.js';
import { danglingReferences } from './references.js';
import { loadRendered } from './rendered-config.js';
import { refusals } from './refusals.js';
import { breaches, type Container, containersOf, podOf } from './restricted.js';

const helm = findHelm();
const render = (values: unknown): Promise<KubernetesObject[]> => helm?.render(values) ?? Promise.resolve([]);

function pick(objects: readonly KubernetesObject[], kind: string, name: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

/** Of the mirror itself. */
function mirrorPod(objects: readonly KubernetesObject[]) {
  const pod = podOf(pick(objects, 'Deployment', 'mirror-cistern'));
  const container = pod?.spec.containers[0];
  if (pod === undefined || container === undefined) throw new Error('the Deployment has no container');
  return { ...pod, container };
}

/** What our command line makes of a container's arguments. */
function understood(container: Container | undefined): Invocation {
  return readCommandLine(container?.args ?? [], {
    out: () => {},
    err: (text) => {
      throw new Error(text);
    },
  });
}

async function configOf(values: unknown) {
  return loadRendered(await render(values));
}

async function schemaFaults(objects: readonly KubernetesObject[]): Promise<string[]> {
  const checks = kubernetesVersions.flatMap((version) =>
    objects.map(async (object) => (await faultsOf(version, object)).map((fault) => `${version} ${fault}`)),
  );
  return (await Promise.all(checks)).flat();
}

/** Of all pods but those that write to the nodes. */
function restrictedBreaches(objects: readonly KubernetesObject[]): string[] {
  return objects
    .filter(({ kind }) => kind !== 'DaemonSet')
    .flatMap((object) => breaches(podOf(object)?.spec ?? { containers: [] }));
}

function imagesOf(objects: readonly KubernetesObject[]): string[] {
  return objects.flatMap((object) =>
    containersOf(podOf(object)?.spec ?? { containers: [] }).map(({ image }) => image),
  );
}

describe.skipIf(helm === undefined)('the chart', () => {
  it.each([
    ['as it is', {}],
    ['with everything', everything],
  ])('has nothing that helm lint minds: %s', async (_, values) => {
    const outcome = await helm?.lint(values);
    expect(outcome).toMatchObject({ done: true });
    expect(outcome?.text).not.toMatch(/\[(?:WARNING|ERROR)\]/);
  });

  it.each(combinations)('renders what Kubernetes takes and Cistern starts with: %s', async (_, values) => {
    const objects = await render(values);
    expect(await schemaFaults(objects)).toEqual([]);
    expect(danglingReferences(objects)).toEqual([]);
    expect(restrictedBreaches(objects)).toEqual([]);
    expect(imagesOf(objects).filter((image) => !/@sha256:|:\d/.test(image))).toEqual([]);
    expect((await loadRendered(objects)).warnings).toEqual([]);
  });

  it('renders everything at once', async () => {
    const objects = await render(everything);
    expect(await schemaFaults(objects)).toEqual([]);
    expect(danglingReferences(objects)).toEqual([]);
    expect(restrictedBreaches(objects)).toEqual([]);
    expect((await loadRendered(objects)).warnings).toEqual([]);
  });

  it('is checked by schemas that see a field which is not there, and one of a wrong type', async () => {
    const deployment = pick(
      await render({ extraEnv: [{ name: 'A', valeu: 'b' }] }),
      'Deployment',
      'mirror-cistern',
    );
    for (const version of kubernetesVersions) {
      expect(await faultsOf(version, deployment)).toEqual([
        expect.stringMatching(/\/containers\/0\/env\/1\/valeu: no such field$/) as string,
      ]);
      const wrong = { ...deployment, spec: { ...(deployment['spec'] as object), replicas: 'two' } };
      expect((await faultsOf(version, wrong)).join()).toContain('/spec/replicas: type');
    }
    const custom = await render({
      httpRoute: { enabled: true, parentRefs: [{ name: 'public' }] },
      metrics: { serviceMonitor: { enabled: true }, prometheusRule: { enabled: true } },
    });
    for (const kind of ['HTTPRoute', 'ServiceMonitor', 'PrometheusRule']) {
      const good = pick(custom, kind, 'mirror-cistern');
      const bad = { ...good, spec: { ...(good['spec'] as object), spce: 1 } };
      expect(await faultsOf('1.36', bad)).toEqual([`${kind} mirror-cistern /spec/spce: no such field`]);
    }
  });

  it('takes every example of docs/getting-started/kubernetes.md', async () => {
    const page = await readFile('docs/getting-started/kubernetes.md', 'utf8');
    const examples = Array.from(page.matchAll(/```yaml\n(.*?)```/gs), ([, text = '']) => text);
    expect(examples.length).toBeGreaterThan(3);
    for (const example of examples) {
      const objects = await render(parse(example));
      expect(await schemaFaults(objects)).toEqual([]);
      await loadRendered(objects);
    }
  });

  it('starts the mirror with the file of its ConfigMap', async () => {
    const { container } = mirrorPod(await render({}));
    const config = '/etc/docker/registry/config.yml';
    expect(understood(container)).toEqual({ kind: 'serve', config });
    expect(container.volumeMounts).toContainEqual({
      name: 'config',
      mountPath: dirname(config),
      readOnly: true,
    });
  });

  it('lets pods drain before they are killed', async () => {
    expect(mirrorPod(await render({})).spec['terminationGracePeriodSeconds']).toBe(92);
    const { spec } = mirrorPod(await render(everything));
    expect(spec['terminationGracePeriodSeconds']).toBe(90 + 120 + 12);
  });

  it('replaces pods when the configuration changes, and not else', async () => {
    const sum = async (values: unknown) =>
      mirrorPod(await render(values)).metadata.annotations?.['checksum/config'];
    const before = await sum({});
    expect(await sum({ service: { port: 80 } })).toBe(before);
    expect(await sum({ config: { log: { level: 'debug' } } })).not.toBe(before);
  });

  it('lays `config` over what it makes itself, and takes out what is null there', async () => {
    const { config } = await configOf({
      config: {
        http: { headers: { 'X-Frame-Options': ['deny'] } },
        proxy: { remoteurl: null, maxsize: '1TB', upstreams: [{ host: 'quay.io', url: 'https://quay.io' }] },
      },
    });
    expect(config.proxy.default).toBeUndefined();
    expect(config.proxy.maxsize).toBe(1e12);
    expect(config.proxy.upstreams.map(({ host }) => host)).toEqual(['quay.io']);
    expect(config.http.addr).toBe(':5000');
    expect(Object.keys(config.http.headers)).toEqual(['X-Content-Type-Options', 'X-Frame-Options']);
  });

  it('gives the replicas their Sentinels, the secret files and a spool of their own', async () => {
    const { config } = await configOf(everything);
    expect(config.redis).toMatchObject({
      mastername: 'mymaster',
      addrs: [0, 1, 2].map((pod) => `mirror-cistern-redis-${pod}.mirror-cistern-redis.mirrors.svc:26379`),
      passwordfile: expect.stringMatching(/\/run\/secrets\/redis\/password$/) as string,
      sentinelpasswordfile: expect.stringMatching(/\/run\/secrets\/redis\/password$/) as string,
    });
    expect(config.cluster.podip).toBe('10.0.0.7');
    expect(config.proxy.spool.directory).toBe('/var/lib/cistern/spool');
    expect(config.proxy.maxsize).toBe(500_000_000_000);
    expect(config.storage).toMatchObject({
      s3: { accesskeyfile: expect.stringMatching(/\/s3\/AWS_ACCESS_KEY_ID$/) as string },
    });
  });

  it('keeps a store that lives in the pod, spools and all, below the limit that the pod is evicted for', async () => {
    const { config } = await configOf({ storage: { type: 'emptyDir', emptyDir: { size: '10Gi' } } });
    expect((config.proxy.maxsize ?? Infinity) + config.proxy.spool.maxsize).toBeLessThan(10 * 2 ** 30);
    for (const redirect of [true, false]) {
      const storage = { type: 's3', s3: { bucket: 'b', redirect }, spool: { size: '10Gi' } };
      const shared = (await configOf({ storage })).config;
      const copies = shared.storage.driver === 's3' && !redirect ? shared.storage.s3.localcopies : 0;
      expect(copies > 0).toBe(!redirect);
      expect(shared.proxy.spool.maxsize + copies).toBeLessThan(10 * 2 ** 30);
    }
  });

  it('never has two pods on a disk that lets in one', async () => {
    const strategy = async (values: unknown) =>
      pick(await render(values), 'Deployment', 'mirror-cistern')['spec'] as { strategy: { type: string } };
    expect((await strategy({})).strategy).toEqual({ type: 'Recreate' });
    const shared = await strategy({ replicas: 2, storage: { volume: { accessMode: 'ReadWriteMany' } } });
    expect(shared.strategy.type).toBe('RollingUpdate');
  });

  it('has an Ingress for every name, with HTTPS unless that ends before', async () => {
    const specOf = async (ingress: object) =>
      pick(await render({ ingress: { enabled: true, ...ingress } }), 'Ingress', 'mirror-cistern')['spec'];
    const hosts = ['mirror.example.com', 'quay.example.com'];
    const spec = await specOf({ hosts, tlsSecret: 'names', className: 'nginx' });
    expect(spec).toMatchObject({
      ingressClassName: 'nginx',
      tls: [{ hosts, secretName: 'names' }],
      rules: hosts.map((host) => ({ host })),
    });
    expect(await specOf({ hosts, tls: false })).not.toHaveProperty('tls');
  });

  it('asks pods by HTTPS where they speak it, and on the debug port where clients need certificates', async () => {
    const probe = async (values: unknown) => mirrorPod(await render(values)).container['readinessProbe'];
    const tls = { tls: { existingSecret: 'tls' } };
    expect(await probe({})).toMatchObject({ httpGet: { path: '/readyz', port: 'http' } });
    expect(await probe(tls)).toMatchObject({ httpGet: { port: 'http', scheme: 'HTTPS' } });
    const both = { ...tls, config: { http: { tls: { clientcas: ['/run/secrets/tls/ca.crt'] } } } };
    const asked = await probe(both);
    expect(asked).toMatchObject({ httpGet: { port: 'debug' } });
    expect(asked).not.toHaveProperty('httpGet.scheme');
  });

  it('has no right in the cluster unless a feature needs one, and then that alone', async () => {
    const plain = await render({});
    expect(plain.filter(({ kind }) => /^(?:Cluster)?Role/.test(kind))).toEqual([]);
    expect(mirrorPod(plain).spec['automountServiceAccountToken']).toBe(false);

    const asking = await render(everything);
    expect(mirrorPod(asking).spec['automountServiceAccountToken']).toBe(true);
    const rules = asking
      .filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole')
      .map(({ kind, metadata, ...object }) => ({
        kind,
        namespace: metadata.namespace,
        rules: object['rules'],
      }));
    const rule = (resource: string, verbs: string[], names?: string[]) => [
      { apiGroups: [''], resources: [resource], ...(names && { resourceNames: names }), verbs },
    ];
    const watch = ['list', 'watch'];
    expect(rules).toHaveLength(4);
    expect(rules).toEqual(
      expect.arrayContaining([
        { kind: 'Role', namespace: 'apps', rules: rule('secrets', watch, ['pull']) },
        { kind: 'Role', namespace: 'mirrors', rules: rule('secrets', watch, ['pull', 'quay']) },
        { kind: 'ClusterRole', namespace: undefined, rules: rule('pods', watch) },
        { kind: 'ClusterRole', namespace: undefined, rules: rule('nodes', ['list']) },
      ]),
    );

    const inuse = { kubernetes: { enabled: true, namespaces: ['apps', 'jobs'] } };
    const some = await render({ config: { scheduler: { inuse } } });
    const roles = some.filter(({ kind }) => kind.endsWith('Role'));
    expect(roles.map(({ kind, metadata }) => `${kind} ${metadata.namespace}`)).toEqual([
      'Role apps',
      'Role jobs',
    ]);
    const elsewhere = { scheduler: { inuse }, cluster: { kubeconfig: '/run/secrets/kube/config' } };
    const outside = await render({ secrets: { kube: 'kube' }, config: elsewhere });
    expect(outside.filter(({ kind }) => kind.includes('Role'))).toEqual([]);
  });

  it('lets only replicas to the cluster port, and only its own to Redis', async () => {
    const objects = await render({ redis: { type: 'bundled' } });
    const froms = (name: string) =>
      (
        pick(objects, 'NetworkPolicy', name)['spec'] as {
          ingress: { ports: { port: string }[]; from?: { podSelector?: { matchLabels: object } }[] }[];
        }
      ).ingress.flatMap(({ ports, from }) =>
        ports.map(({ port }) => [
          port,
          from?.map(({ podSelector }) => podSelector?.matchLabels ?? 'other namespaces'),
        ]),
      );
    const component = (name: string) =>
      expect.objectContaining({
        'app.kubernetes.io/instance': 'mirror',
        'app.kubernetes.io/component': name,
      }) as object;
    expect(froms('mirror-cistern')).toEqual([
      ['http', undefined],
      ['cluster', [component('mirror')]],
      ['debug', ['other namespaces']],
    ]);
    expect(froms('mirror-cistern-redis')).toEqual([
      ['redis', [component('mirror'), component('redis')]],
      ['sentinel', [component('mirror'), component('redis')]],
    ]);
  });

  it('configures nodes as root of their folders, with no other right', async () => {
    const daemons = pick(await render(everything), 'DaemonSet', 'mirror-cistern-nodes');
    const spec = podOf(daemons)?.spec ?? { containers: [] };
    expect(breaches(spec)).toEqual([
      'volume containerd: hostPath',
      'volume state: hostPath',
      'configure-node: runAsNonRoot',
      'configure-node: runAsUser 0',
    ]);
    expect(understood(spec.initContainers?.[0])).toMatchObject({
      kind: 'configure-node',
      node: {
        mirror: 'https://mirror.example.com',
        runtime: ['containerd'],
        root: '/node',
        ca: '/ca/ca.crt',
        upstream: ['docker.io', 'ghcr.io'],
      },
    });
    const undone = await render({ nodes: { ...everything.nodes, undo: true } });
    const pod = podOf(pick(undone, 'DaemonSet', 'mirror-cistern-nodes'));
    expect(understood(pod?.spec.initContainers?.[0])).toMatchObject({
      kind: 'configure-node',
      node: { root: '/node', undo: true },
    });
  });

  it('brings alerts and dashboards as they are in deploy', async () => {
    const objects = await render(everything);
    const rule = pick(objects, 'PrometheusRule', 'mirror-cistern')['spec'] as {
      groups: { rules: { alert?: string; annotations?: { runbook_url: string } }[] }[];
    };
    const alerts = rule.groups.flatMap(({ rules }) => rules).filter(({ alert }) => alert !== undefined);
    expect(alerts.length).toBeGreaterThan(5);
    for (const { alert, annotations } of alerts)
      expect(annotations?.runbook_url).toBe(`https://wiki.example.com/cistern/${alert}.md`);
    const dashboards = objects.filter(({ metadata }) => metadata.labels['grafana_dashboard'] === '1');
    const shipped = copies().filter(({ to }) => to.endsWith('.json'));
    expect(dashboards).toHaveLength(shipped.length);
    for (const { data } of dashboards as unknown as { data: Record<string, string> }[])
      for (const text of Object.values(data)) expect(JSON.parse(text)).toHaveProperty('panels');
  });

  it.each([
    [
      { nodes: { enabled: true, mirror: 'https://m.example.com' } },
      'makes every node use https://m.example.com',
    ],
    [
      { ingress: { enabled: true, hosts: ['m.example.com'] } },
      'configure-node --mirror https://m.example.com',
    ],
    [{}, 'by `ingress`, `httpRoute` or `service.type: LoadBalancer`'],
    [
      { replicas: 2, storage: { volume: { accessMode: 'ReadWriteMany' } } },
      'several replicas without Redis fetch each blob once each',
    ],
  ])('tells what comes next: %o', async (values, words) => {
    expect(await helm?.notes(values)).toContain(words);
  });

  it.each(refusals)('refuses, and says why: %o', async (values, words) => {
    const outcome = await helm?.template(values);
    expect(outcome?.done).toBe(false);
    expect(outcome?.text).toContain(words);
    expect(outcome?.text).not.toContain('hidden');
  });

  it('says all that is wrong at once', async () => {
    const outcome = await helm?.template({
      replicas: 2,
      redis: { type: 'existing' },
      nodes: { enabled: true },
    });
    for (const words of ['several replicas', 'redis.addr', 'nodes.mirror'])
      expect(outcome?.text).toContain(words);
  });
});
