import type { UpstreamConfig } from '../config/config.js';
import { CredentialHelper } from './credential-helper.js';
import { filePassword, fixedPassword, userWith, type Credentials } from './credentials.js';
import { dockerHubHosts } from './directory.js';
import type { UpstreamLog } from './observer.js';

export interface CredentialSources {
  /** For upstreams without any of their own. */
  readonly shared: { credentialsFor(host: string): Credentials } | undefined;
  readonly log: UpstreamLog;
}

/** What an upstream's section says of who we are there, in the order of its use. */
export function credentialsOf(config: UpstreamConfig, { shared, log }: CredentialSources): Credentials[] {
  const { host, url, exec } = config;
  const { host: address } = new URL(url);
  const helper =
    exec &&
    new CredentialHelper({
      command: exec.command,
      lifetimeMs: exec.lifetime,
      // What `docker login` files Docker Hub under.
      server: dockerHubHosts.includes(address) ? 'https://index.docker.io/v1/' : address,
      env: helperEnvironment(process.env),
      host,
      log,
      now: () => performance.now(),
    });
  const users = config.credentials.flatMap(({ username, password, passwordfile }) => {
    if (password !== undefined) return userWith(username, fixedPassword(password.reveal()));
    return passwordfile === undefined ? [] : userWith(username, filePassword(passwordfile, log));
  });
  const own = helper === undefined ? users : [helper, ...users];
  return own.length > 0 || shared === undefined ? own : [shared.credentialsFor(address)];
}

/** A helper has its own settings in the environment; ours, with other upstreams' passwords, are not for it. */
function helperEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('REGISTRY_')));
}
