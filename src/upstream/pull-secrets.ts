import { pause, settled } from '../async/wait.js';
import type { SecretName } from '../config/config.js';
import type { KubernetesApi } from '../kubernetes/kubernetes.js';
import { KubernetesError } from '../kubernetes/kubernetes.js';
import { ObjectWatch, type KubernetesObject } from '../kubernetes/object-watch.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { CredentialsError, type Credentials, type Login } from './credentials.js';
import { credentialsHost, parseDockerConfig } from './docker-config.js';

/** A request waits so long for Secrets that nobody has told of yet: the first after the start, mostly. */
const patienceMs = 5_000;
/** Where this mirror is, while that cannot be read. */
const againMs = 10_000;

export interface PullSecretsParts {
  readonly api: KubernetesApi;
  readonly names: readonly SecretName[];
  readonly log: Logger;
  readonly metrics: Metrics;
  /** For {@link patienceMs}. */
  readonly patienceMs?: number;
}

/** What is known of a Secret. */
interface Known {
  readonly name: SecretName;
  /** `undefined`: nothing yet. What is known stays when the Secret goes, and while nobody can be asked. */
  logins: ReadonlyMap<string, Login> | undefined;
}

/**
 * Credentials by host from Kubernetes' Secrets of type `kubernetes.io/dockerconfigjson` (Kubernetes, "Secrets"), watched:
 * what they say now counts for the next request. The first that has a host counts for it.
 */
export class PullSecrets {
  readonly #secrets: readonly Known[];
  readonly #closing = new AbortController();
  #started = false;
  #told = Promise.withResolvers<void>();

  constructor(private readonly parts: PullSecretsParts) {
    this.#secrets = parts.names.map((name) => ({ name, logins: undefined }));
  }

  /** Begins to watch; nobody waits for it. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const secret of this.#secrets) {
      this.#watch(secret).catch((err: unknown) =>
        this.parts.log.error({ err, secret: secret.name.name }, 'the watch of a pull secret has ended'),
      );
    }
  }

  close(): void {
    this.#closing.abort();
  }

  credentialsFor(host: string): Credentials {
    const key = credentialsHost(host);
    return { account: 'pullsecrets', login: () => this.#login(key) };
  }

  async #login(host: string): Promise<Login | undefined> {
    this.start(); // a command that pulls
    const late = AbortSignal.timeout(this.parts.patienceMs ?? patienceMs);
    for (const secret of this.#secrets) {
      while (secret.logins === undefined) {
        if (late.aborted) {
          // To go on as anybody would make private images look as if they were not there.
          const unknown = 'a Secret of proxy.pullsecrets could not be read yet';
          throw new CredentialsError('pull-secret', unknown);
        }
        await settled([this.#told.promise], late);
      }
      const login = secret.logins.get(host);
      if (login !== undefined) return login;
    }
    return undefined;
  }

  async #watch(secret: Known): Promise<void> {
    const { api, log, metrics } = this.parts;
    const { name } = secret.name;
    const { signal } = this.#closing;
    const namespace = secret.name.namespace ?? (await this.#ownNamespace(signal));
    if (namespace === undefined) return;
    const take = (data: SecretData | undefined): void => this.#take(secret, `${namespace}/${name}`, data);
    const watch = new ObjectWatch<SecretData>({
      api,
      path: `/api/v1/namespaces/${namespace}/secrets`,
      // With it, a right to list and watch this one Secret by its name is enough.
      fieldSelector: `metadata.name=${name}`,
      resource: 'secrets',
      read: readSecret,
      listed: (objects) => take(objects.get(`${namespace}/${name}`)),
      changed: (_, data) => take(data),
      log,
      metrics,
    });
    await watch.run(signal);
  }

  async #ownNamespace(signal: AbortSignal): Promise<string | undefined> {
    for (let told = false; !signal.aborted; told = true) {
      try {
        return (await this.parts.api.place()).namespace;
      } catch (err) {
        if (!(err instanceof KubernetesError)) throw err;
        if (!told) this.parts.log.warn({ err }, 'pull secrets cannot be watched yet');
        await pause(againMs, signal);
      }
    }
    return undefined;
  }

  #take(secret: Known, name: string, data: SecretData | undefined): void {
    const { log } = this.parts;
    if (data === undefined) {
      log.warn({ secret: name }, 'there is no such pull secret, what was known of it stays');
      this.#learn(secret, secret.logins ?? new Map());
      return;
    }
    const changed = secret.logins !== undefined;
    try {
      this.#learn(secret, parseDockerConfig(Buffer.from(data.text ?? '', 'base64').toString('utf8')));
      log.info({ secret: name, changed }, 'pull secret read');
    } catch (err) {
      if (!(err instanceof CredentialsError)) throw err;
      log.warn({ secret: name, err }, 'not a pull secret, what was known of it stays');
      this.#learn(secret, secret.logins ?? new Map());
    }
  }

  #learn(secret: Known, logins: ReadonlyMap<string, Login>): void {
    secret.logins = logins;
    this.#told.resolve();
    this.#told = Promise.withResolvers<void>();
  }
}

interface SecretData {
  /** In Base64, as the API has it; `undefined`: it has no such key. */
  readonly text: string | undefined;
}

function readSecret({ data }: KubernetesObject): SecretData {
  const text = (data as Record<string, unknown> | null | undefined)?.['.dockerconfigjson'];
  return { text: typeof text === 'string' ? text : undefined };
}
