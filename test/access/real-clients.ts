import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConnectProxy } from '../fakes/connect-proxy.js';
import type { CertificateFiles } from '../parts/certificates.js';
import type { Cistern } from '../parts/cistern.js';
import { type ContainerdHost, startContainerd } from '../parts/containerd.js';
import type { Part } from '../parts/debian.js';
import { startDockerd } from '../parts/dockerd.js';
import { temporaryFolder } from '../parts/folder.js';
import type { Output } from '../parts/process.js';
import { skopeo, skopeoCopy } from '../parts/skopeo.js';

/** A mirror that asks for certificates, and who may come to it with which. */
export interface TlsScene {
  readonly mirror: Cistern;
  /** A PEM file: who has signed the mirror's own certificate. */
  readonly ca: string;
  /** By the name of their holder; without files: somebody who has none. */
  readonly holders: Readonly<Record<string, CertificateFiles | undefined>>;
}

/** A program that pulls images, which are forgotten after each pull. */
export interface Client extends AsyncDisposable {
  /** `image`: `team/app:v1`. `login`: `name:password`. */
  pull(mirror: Cistern, image: string, login?: string): Promise<Output>;
  /** From the mirror that asks for certificates. */
  pullAs(holder: string, image: string): Promise<Output>;
  /** Its command for that; containerd has none, and logs in with each pull. */
  login(mirror: Cistern, login: string): Promise<Output>;
}

export interface ClientKind {
  readonly name: string;
  readonly needs: readonly Part[];
  start(scene: TlsScene): Promise<Client>;
}

export const clientKinds: readonly ClientKind[] = [
  { name: 'skopeo', needs: ['skopeo'], start: startSkopeo },
  { name: 'containerd', needs: ['containerd', 'root'], start: startContainerdClient },
  { name: 'dockerd', needs: ['dockerd', 'unshare', 'root'], start: startDockerdClient },
];

function startSkopeo(scene: TlsScene): Promise<Client> {
  return Promise.resolve({
    pull: (mirror, image, login) =>
      skopeoCopy(`${mirror.host}/${image}`, [
        login === undefined ? '--src-no-creds' : `--src-creds=${login}`,
      ]),
    pullAs: async (holder, image) => {
      await using folder = await temporaryFolder();
      await copyFile(scene.ca, join(folder.path, 'ca.crt'));
      const own = scene.holders[holder];
      if (own !== undefined) {
        await copyFile(own.certificate, join(folder.path, 'client.cert'));
        await copyFile(own.key, join(folder.path, 'client.key'));
      }
      const args = ['--src-tls-verify=true', `--src-cert-dir=${folder.path}`];
      return await skopeoCopy(`${scene.mirror.host}/${image}`, args);
    },
    login: (mirror, login) => {
      const [name = '', password = ''] = login.split(':');
      return skopeo(['login', '--tls-verify=false', '-u', name, '-p', password, mirror.host]);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

/** With the mirror in `hosts.toml`, so that its requests have `ns`, and no registry behind it. */
async function startContainerdClient({ mirror: secured, ca, holders }: TlsScene): Promise<Client> {
  const containerd = await startContainerd();
  const from = async (image: string, host: ContainerdHost, login?: string): Promise<Output> => {
    // As its name has it, `ghcr.io/team/app:v1`, or of Docker Hub.
    const registry = /^[^/]+\.[^/]+(?=\/)/.exec(image)?.[0] ?? 'docker.io';
    const reference = image.startsWith(`${registry}/`) ? image : `${registry}/${image}`;
    const hosts = { [registry]: { server: 'http://127.0.0.1:9', mirrors: [host] } };
    const output = await containerd.pull(reference, {
      hosts,
      ...(login === undefined ? {} : { user: login }),
    });
    if (output.code === 0) await containerd.remove(reference);
    return output;
  };
  return {
    pull: (mirror, image, login) => from(image, { url: mirror.url }, login),
    login: (mirror, login) => from('team/app:v1', { url: mirror.url }, login),
    pullAs: (holder, image) => {
      const client = holders[holder];
      return from(image, { url: secured.url, ca, ...(client === undefined ? {} : { client }) });
    },
    [Symbol.asyncDispose]: () => containerd[Symbol.asyncDispose](),
  };
}

/** With the mirror as the registry that images are from. */
async function startDockerdClient({ mirror: secured, ca, holders }: TlsScene): Promise<Client> {
  await using cleanup = new AsyncDisposableStack();
  const port = Number(new URL(secured.url).port);
  const proxy = cleanup.use(await ConnectProxy.start(port));
  const registryOf = (holder: string) => `${holder}.mirror.test:${port}`;
  const certificates = Object.fromEntries(
    Object.entries(holders).map(([holder, client]) => [
      registryOf(holder),
      { ca, ...(client === undefined ? {} : { client }) },
    ]),
  );
  const dockerd = cleanup.use(await startDockerd({ registries: { proxy: proxy.url, certificates } }));
  const pull = async (reference: string, settings: object): Promise<Output> => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, 'config.json'), JSON.stringify(settings));
    const output = await dockerd.docker(['--config', folder.path, 'pull', '--quiet', reference]);
    if (output.code === 0) await dockerd.docker(['image', 'rm', reference]);
    return output;
  };
  const owned = cleanup.move();
  return {
    pull: ({ host }, image, login) => {
      const auth = Buffer.from(login ?? '').toString('base64');
      return pull(`${host}/${image}`, login === undefined ? {} : { auths: { [host]: { auth } } });
    },
    pullAs: (holder, image) => pull(`${registryOf(holder)}/${image}`, {}),
    login: async ({ host }, login) => {
      const [name = '', password = ''] = login.split(':');
      await using folder = await temporaryFolder();
      const args = ['--config', folder.path, 'login', '-u', name, '-p', password, host];
      return await dockerd.docker(args);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
