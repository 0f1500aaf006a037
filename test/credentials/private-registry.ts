import { startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import type { Image } from '../parts/image.js';
import { pushImage } from '../parts/push.js';
import { TokenServer } from '../parts/token-server.js';

export const user = 'mirror';
/** With all that is special in URLs, headers, JSON and YAML. */
export const password = 'p@ss: "wörd" $HOME/%41+\\&?#';

export interface PrivateRegistry extends AsyncDisposable {
  readonly url: string;
  /** Tokens given out so far; none where there are passwords only. */
  issued(): readonly string[];
  push(repository: string, tag: string, image: Image): Promise<void>;
  /** From now on it knows its user by another one. */
  changePassword(password: string): Promise<void>;
}

export type Protection = 'htpasswd' | 'token server';

/** A real registry that one user may use, all repositories of it, and nobody else. */
export function startPrivateRegistry(protection: Protection): Promise<PrivateRegistry> {
  return protection === 'htpasswd' ? withHtpasswd() : withTokenServer();
}

export function basicOf(name: string, secret: string): string {
  return `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`;
}

async function withHtpasswd(): Promise<PrivateRegistry> {
  const registry = await startDockerRegistry({ htpasswd: { [user]: password } });
  const { url } = registry;
  let current = password;
  return {
    url,
    issued: () => [],
    push: (repository, tag, image) =>
      pushImage({ url, repository, authorization: basicOf(user, current) }, tag, image),
    changePassword: async (next) => {
      await registry.changeUsers({ [user]: next });
      current = next;
    },
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  };
}

async function withTokenServer(): Promise<PrivateRegistry> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const repositories: string[] = [];
  const account = { password, repositories };
  const tokens = cleanup.use(await TokenServer.start({ users: { [user]: account } }));
  const registry = cleanup.use(await startDockerRegistry({ token: await tokens.registryAuth(folder.path) }));
  const { url } = registry;
  const owned = cleanup.move();
  return {
    url,
    issued: () => tokens.issued,
    push: async (repository, tag, image) => {
      repositories.push(repository);
      await pushImage({ url, repository, authorization: tokens.issue(repository) }, tag, image);
    },
    changePassword: (next) => {
      account.password = next;
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
