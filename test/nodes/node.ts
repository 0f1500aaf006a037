import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { runCommand } from '../../src/cli/command.js';
import { readCommandLine } from '../../src/cli/program.js';
import { temporaryFolder } from '../parts/folder.js';
import { type Cistern, type CisternOptions, startCistern } from '../parts/cistern.js';
import { makeCertificate } from '../parts/certificates.js';
import { type Image, imageOf, randomLayer } from '../parts/image.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Output } from '../parts/process.js';

/** A machine's root folder, which `configure-node` changes and real clients see as their own. */
export interface TestNode extends AsyncDisposable {
  readonly root: string;
  write(path: string, text: string, mode?: number): Promise<void>;
  configure(...args: readonly string[]): Promise<Output>;
  /** A command to start a program with, for which the node's folders below `/etc` stand in place of the machine's. */
  asSeenBy(command: string, args: readonly string[]): [string, string[]];
}

const unshare = '/usr/bin/unshare';
const folders = ['etc/docker', 'etc/containerd', 'etc/containers'] as const;

export async function testNode(): Promise<TestNode> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const root = await mkdtemp(join(folder.path, 'node-'));
  const owned = cleanup.move();
  return {
    root,
    write: async (path, text, mode = 0o644) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text, { mode });
    },
    configure: (...args) => inThisProcess(['configure-node', '--root', root, ...args]),
    asSeenBy: (command, args) => {
      // In mounts of its own, which end with it; exec, so that signals reach it.
      const mounts = folders.map(
        (name) => `if [ -d "$0/${name}" ]; then mkdir -p /${name} && mount --bind "$0/${name}" /${name}; fi`,
      );
      const script = `set -e; ${mounts.join('; ')}; exec "$@"`;
      return [unshare, ['--mount', 'sh', '-c', script, root, command, ...args]];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What the program does with these arguments, without the time that a process takes to begin. */
async function inThisProcess(args: readonly string[]): Promise<Output> {
  const written = { stdout: '', stderr: '' };
  const into = (name: keyof typeof written): Writable =>
    new Writable({
      write: (chunk: Buffer, _, done) => {
        written[name] += chunk.toString();
        done();
      },
    });
  const invocation = readCommandLine(args, {
    out: (text) => (written.stdout += text),
    err: (text) => (written.stderr += text),
  });
  if (invocation.kind !== 'configure-node') throw new Error(`${args.join(' ')} is ${invocation.kind}`);
  const code = await runCommand(invocation, { stdout: into('stdout'), stderr: into('stderr') });
  return { code, ...written };
}

/** The registries whose images are pulled, each with one of its own under the same name. */
export const registries = ['docker.io', 'ghcr.io', 'quay.io'] as const;
export type Registry = (typeof registries)[number];

export interface SecureMirror extends AsyncDisposable {
  readonly cistern: Cistern;
  /** The authority that its certificate is from. */
  readonly ca: string;
  readonly upstreams: Readonly<Record<Registry, FakeUpstream>>;
  readonly images: Readonly<Record<Registry, Image>>;
}

export const repository = 'library/app';

/** A mirror of three registries behind TLS, whose certificate nobody knows by itself. */
export async function startSecureMirror(options: CisternOptions = {}): Promise<SecureMirror> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const authority = await makeCertificate(folder.path, 'authority');
  const own = await makeCertificate(folder.path, 'mirror', authority);
  const start = async (name: string): Promise<[FakeUpstream, Image]> => {
    const upstream = cleanup.use(await FakeUpstream.start());
    const image = imageOf({ layers: [randomLayer(20_000, name)] });
    upstream.addImage(repository, 'v1', image);
    return [upstream, image];
  };
  const [hub, hubImage] = await start('docker.io');
  const [ghcr, ghcrImage] = await start('ghcr.io');
  const [quay, quayImage] = await start('quay.io');
  const others = [
    { host: 'ghcr.io', url: ghcr.url },
    { host: 'quay.io', url: quay.url },
  ];
  const cistern = cleanup.use(
    await startCistern({
      ...options,
      config: {
        http: { tls: own },
        proxy: { remoteurl: hub.url, upstreams: others },
        ...options.config,
      },
    }),
  );
  const owned = cleanup.move();
  return {
    cistern,
    ca: authority.certificate,
    upstreams: { 'docker.io': hub, 'ghcr.io': ghcr, 'quay.io': quay },
    images: { 'docker.io': hubImage, 'ghcr.io': ghcrImage, 'quay.io': quayImage },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
