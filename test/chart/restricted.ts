import type { KubernetesObject } from './helm.js';

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly {
    readonly name: string;
    readonly containerPort: number;
    readonly hostPort?: number;
  }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext?: SecurityContext;
  readonly [field: string]: unknown;
}

interface SecurityContext {
  readonly runAsNonRoot?: boolean;
  readonly runAsUser?: number;
  readonly privileged?: boolean;
  readonly procMount?: string;
  readonly allowPrivilegeEscalation?: boolean;
  readonly readOnlyRootFilesystem?: boolean;
  readonly seccompProfile?: { readonly type: string };
  readonly capabilities?: { readonly drop?: readonly string[]; readonly add?: readonly string[] };
}

export interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes?: readonly { readonly name: string; readonly [source: string]: unknown }[];
  readonly securityContext?: SecurityContext & { readonly sysctls?: unknown };
  readonly [field: string]: unknown;
}

interface PodTemplate {
  readonly metadata: KubernetesObject['metadata'];
  readonly spec: PodSpec;
}

export function podOf(object: KubernetesObject): PodTemplate | undefined {
  const { spec } = object as { spec?: { template?: PodTemplate } };
  return ['Deployment', 'StatefulSet', 'DaemonSet'].includes(object.kind) ? spec?.template : undefined;
}

export function containersOf(pod: PodSpec): Container[] {
  return [...(pod.initContainers ?? []), ...pod.containers];
}

const allowedVolumes = new Set([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
]);

/**
 * What the `restricted` profile of Pod Security forbids, by Kubernetes' page "Pod Security Standards"; and a root file
 * system that can be written to, which it does not.
 */
export function breaches(pod: PodSpec): string[] {
  const found: string[] = [];
  const forbid = (is: boolean, what: string): void => {
    if (is) found.push(what);
  };
  for (const key of ['hostNetwork', 'hostPID', 'hostIPC'])
    forbid(pod[key] !== undefined && pod[key] !== false, key);
  forbid(pod.securityContext?.sysctls !== undefined, 'sysctls');
  for (const volume of pod.volumes ?? [])
    for (const source of Object.keys(volume).filter((key) => key !== 'name'))
      forbid(!allowedVolumes.has(source), `volume ${volume.name}: ${source}`);
  for (const container of containersOf(pod)) {
    const of = (what: string) => `${container.name}: ${what}`;
    const own = container.securityContext ?? {};
    const both = { ...pod.securityContext, ...own };
    forbid(both.runAsNonRoot !== true, of('runAsNonRoot'));
    forbid(both.runAsUser === 0, of('runAsUser 0'));
    forbid(!['RuntimeDefault', 'Localhost'].includes(both.seccompProfile?.type ?? ''), of('seccompProfile'));
    forbid(own.privileged === true, of('privileged'));
    forbid(own.allowPrivilegeEscalation !== false, of('allowPrivilegeEscalation'));
    forbid(own.readOnlyRootFilesystem !== true, of('readOnlyRootFilesystem'));
    forbid((own.procMount ?? 'Default') !== 'Default', of('procMount'));
    forbid(own.capabilities?.drop?.includes('ALL') !== true, of('capabilities.drop'));
    forbid(
      (own.capabilities?.add ?? []).some((name) => name !== 'NET_BIND_SERVICE'),
      of('capabilities.add'),
    );
    forbid(
      (container.ports ?? []).some(({ hostPort }) => hostPort !== undefined),
      of('hostPort'),
    );
  }
  return found;
}
