import type { KubernetesObject } from './helm.js';
import { containersOf, podOf } from './restricted.js';

type Labels = Readonly<Record<string, string>>;

/** What objects name that is not there: volumes, ports, ConfigMaps, claims, service accounts, pods that a selector is about. */
export function danglingReferences(objects: readonly KubernetesObject[]): string[] {
  return [
    ...objects.flatMap((object) => inPods(object, objects)),
    ...objects.flatMap((object) => selected(object, objects)),
  ];
}

function inPods(object: KubernetesObject, all: readonly KubernetesObject[]): string[] {
  const pod = podOf(object);
  if (pod === undefined) return [];
  const found: string[] = [];
  const need = (kind: string, name: unknown): void => {
    const there = all.some((other) => other.kind === kind && other.metadata.name === name);
    if (!there) found.push(`${kind} ${String(name)}`);
  };
  const volumes = pod.spec.volumes ?? [];
  const mounts = containersOf(pod.spec).flatMap(({ volumeMounts = [] }) => volumeMounts);
  for (const { name } of mounts)
    if (!volumes.some((volume) => volume.name === name)) found.push(`volume ${name}`);
  for (const { name } of volumes)
    if (!mounts.some((mount) => mount.name === name)) found.push(`a mount of ${name}`);
  for (const container of containersOf(pod.spec)) {
    const paths = (container.volumeMounts ?? []).map(({ mountPath }) => mountPath);
    if (new Set(paths).size < paths.length) found.push(`${container.name}: a path with two mounts`);
  }
  for (const volume of volumes) {
    const { configMap, persistentVolumeClaim: claim } = volume as {
      configMap?: { name: string };
      persistentVolumeClaim?: { claimName: string };
    };
    if (configMap?.name.startsWith('mirror-cistern') === true) need('ConfigMap', configMap.name);
    if (claim?.claimName.startsWith('mirror-cistern') === true)
      need('PersistentVolumeClaim', claim.claimName);
  }
  const account = pod.spec['serviceAccountName'];
  if (account !== undefined) need('ServiceAccount', account);
  return found.map((what) => `${object.kind} ${object.metadata.name} lacks ${what}`);
}

/** Whom a Service, a policy or a budget is about, and by what ports. */
function selected(object: KubernetesObject, all: readonly KubernetesObject[]): string[] {
  const spec = (object['spec'] ?? {}) as {
    selector?: Labels & { matchLabels?: Labels };
    podSelector?: { matchLabels: Labels };
    ports?: { targetPort: string }[];
    ingress?: { ports: { port: string }[] }[];
  };
  const about = `${object.kind} ${object.metadata.name}`;
  if (object.kind === 'ServiceMonitor') {
    const services = all.filter((other) => other.kind === 'Service');
    const labels = spec.selector?.matchLabels ?? {};
    return services.some(({ metadata }) => matches(metadata.labels, labels))
      ? []
      : [`${about} selects nothing`];
  }
  const labels = spec.podSelector?.matchLabels ?? spec.selector?.matchLabels ?? spec.selector;
  if (labels === undefined || object.kind === 'PersistentVolumeClaim') return [];
  const pods = all
    .map((other) => podOf(other))
    .filter((pod) => pod !== undefined)
    .filter((pod) => matches(pod.metadata.labels, labels as Labels));
  if (pods.length !== 1) return [`${about} selects ${pods.length} kinds of pods`];
  const names = new Set(
    pods.flatMap((pod) => pod.spec.containers.flatMap(({ ports = [] }) => ports.map(({ name }) => name))),
  );
  const wanted = [
    ...(spec.ports ?? []).map(({ targetPort }) => targetPort),
    ...(Array.isArray(spec.ingress)
      ? spec.ingress.flatMap(({ ports }) => ports.map(({ port }) => port))
      : []),
  ];
  return wanted.filter((port) => !names.has(port)).map((port) => `${about}: no port ${port}`);
}

function matches(labels: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}
