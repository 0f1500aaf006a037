import { fileURLToPath } from 'node:url';
import type { KubernetesObject } from './helm.js';

/** By Kubernetes' version: the package that has its schemas, compiled from its OpenAPI document by ajv. */
const packages = {
  '1.27': { folder: 'kubernetes-models-1-27', ending: 'mjs' },
  '1.36': { folder: 'kubernetes-models', ending: 'js' },
} as const;
export type KubernetesVersion = keyof typeof packages;
export const kubernetesVersions = Object.keys(packages) as KubernetesVersion[];

/** Resources that are not Kubernetes' own: by their group, whose schemas they have. */
const custom: Readonly<Record<string, { readonly folder: string; readonly prefix: string }>> = {
  'monitoring.coreos.com/v1': {
    folder: '@kubernetes-models/prometheus-operator',
    prefix: 'ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1',
  },
  'gateway.networking.k8s.io/v1': {
    folder: '@kubernetes-models/gateway-api',
    prefix: 'IoK8sSigsGatewayApiApisV1',
  },
};

interface Validate {
  (data: unknown): boolean;
  readonly errors?:
    | readonly {
        readonly instancePath: string;
        readonly message?: string;
        readonly keyword: string;
        readonly params: unknown;
      }[]
    | null;
}

/** What is wrong with an object by the schema of its kind, fields that the schema does not have among it. */
export async function faultsOf(version: KubernetesVersion, object: KubernetesObject): Promise<string[]> {
  const validate = await schemaOf(version, object);
  const witness = new Witness();
  const faults = validate(witness.watched(object))
    ? []
    : (validate.errors ?? []).map(
        ({ instancePath, keyword, params }) => `${instancePath}: ${keyword} ${JSON.stringify(params)}`,
      );
  const unknown = faults.length > 0 ? [] : witness.unread(object, '');
  return [...faults, ...unknown.map((path) => `${path}: no such field`)].map(
    (fault) => `${object.kind} ${object.metadata.name} ${fault}`,
  );
}

async function schemaOf(version: KubernetesVersion, object: KubernetesObject): Promise<Validate> {
  const { apiVersion, kind } = object;
  const { folder, prefix } = custom[apiVersion] ?? {
    folder: packages[version].folder,
    prefix: `IoK8sApi${nameOf(apiVersion)}`,
  };
  const ending = apiVersion in custom ? 'js' : packages[version].ending;
  const path = `../../node_modules/${folder}/_schemas/${prefix}${kind}.${ending}`;
  const { validate } = (await import(fileURLToPath(new URL(path, import.meta.url)))) as {
    validate: Validate;
  };
  return validate;
}

/** `v1` → `CoreV1`, `networking.k8s.io/v1` → `NetworkingV1`. */
function nameOf(apiVersion: string): string {
  const [version = '', group = 'core'] = apiVersion.split('/').toReversed();
  return [group.split('.')[0] ?? '', version]
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
}

/**
 * OpenAPI lets an object have fields that its schema does not know; kubectl and the API server do not. A compiled
 * schema reads the fields that it knows: what it never read, it does not know.
 */
class Witness {
  private readonly read = new WeakMap<object, Set<string>>();
  private readonly proxies = new WeakMap<object, object>();

  watched(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value;
    const known = this.proxies.get(value);
    if (known !== undefined) return known;
    const keys = new Set<string>();
    this.read.set(value, keys);
    const proxy = new Proxy(value, {
      get: (target, key, receiver) => {
        if (typeof key === 'string') keys.add(key);
        return this.watched(Reflect.get(target, key, receiver));
      },
    });
    this.proxies.set(value, proxy);
    return proxy;
  }

  unread(value: unknown, path: string): string[] {
    if (typeof value !== 'object' || value === null) return [];
    const keys = this.read.get(value);
    return Object.entries(value).flatMap(([key, inside]) =>
      keys?.has(key) === true ? this.unread(inside, `${path}/${key}`) : [`${path}/${key}`],
    );
  }
}
