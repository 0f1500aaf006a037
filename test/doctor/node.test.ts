import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { examineNode } from '../../src/doctor/node-checks.js';
import { parseMirror } from '../../src/nodes/hosts.js';
import { places } from '../../src/nodes/runtimes.js';
import { NodeFiles } from '../../src/nodes/node-files.js';
import { runCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { repository, startSecureMirror, testNode, type SecureMirror, type TestNode } from '../nodes/node.js';
import { patience } from '../parts/patience.js';

interface Diagnosis {
  readonly code: number;
  readonly lines: readonly string[];
}

/** As its users run it. */
async function doctor(node: TestNode, args: readonly string[] = []): Promise<Diagnosis> {
  const own = ['doctor', '--node', '--root', node.root];
  const { code, stdout, stderr } = await runCistern([...own, ...args], { env: { HOME: node.root } });
  expect(stderr).toBe('');
  return { code, lines: stdout.trim().split('\n') };
}

/** The same in this process. */
async function examine(node: TestNode, url?: string, ca?: string): Promise<string[]> {
  const options = {
    mirror: url === undefined ? undefined : parseMirror(url),
    ca: ca === undefined ? undefined : await readFile(ca),
    pull: undefined,
    metrics: undefined,
  };
  const findings = await examineNode(new NodeFiles(node.root), options, patience());
  return findings.map(
    ({ check, verdict, message, advice }) =>
      `${verdict} ${check}: ${message}${advice === undefined ? '' : ` -> ${advice}`}`,
  );
}

describe.skipIf(lacks('openssl'))('doctor on a machine that pulls', () => {
  let mirror: SecureMirror;
  let configured: readonly string[];
  beforeAll(async () => {
    mirror = await startSecureMirror();
    configured = ['--mirror', mirror.cistern.url, '--ca', mirror.ca];
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  /** A machine with all runtimes, none of which knows a mirror. */
  async function untouched(): Promise<TestNode> {
    const node = await testNode();
    for (const program of ['dockerd', 'containerd', 'podman']) await node.write(`usr/bin/${program}`, '');
    await node.write('etc/containerd/config.toml', 'version = 2\n');
    return node;
  }

  it('says that nothing leads through a mirror where no file names one', async () => {
    await using node = await untouched();
    expect(await doctor(node)).toEqual({
      code: 1,
      lines: ['fail  node: no file here names a mirror -> cistern configure-node --mirror https://…'],
    });
    expect(await examine(node, mirror.cistern.url, mirror.ca)).toEqual([
      `ok mirror: ${mirror.cistern.url} answers`,
      expect.stringMatching(
        /^fail docker: docker\.io: not pulled through .* -> cistern configure-node --mirror/,
      ),
      expect.stringMatching(
        /^fail containerd: Kubernetes does not read .* config_path -> cistern configure-node --set-config-path/,
      ),
      expect.stringMatching(/^fail containerd: docker\.io, ghcr\.io, quay\.io: not pulled through /),
      expect.stringMatching(/^fail podman: docker\.io, ghcr\.io, quay\.io: not pulled through /),
    ]);
  });

  it('finds what configure-node wrote, the mirror and its authority among it, and what is missing of it', async () => {
    await using node = await untouched();
    expect(await node.configure(...configured, '--set-config-path')).toMatchObject({ code: 0 });
    const { url } = mirror.cistern;
    expect(await doctor(node)).toEqual({
      code: 0,
      lines: [
        `ok    mirror: ${url} answers`,
        `ok    docker: is told to pull docker.io through ${url}`,
        `ok    containerd: is told to pull docker.io, ghcr.io, quay.io through ${url}`,
        `ok    podman: is told to pull docker.io, ghcr.io, quay.io through ${url}`,
      ],
    });
    await node.write('etc/containerd/certs.d/ghcr.io/hosts.toml', 'server = "https://ghcr.io"\n');
    await node.write('etc/docker/daemon.json', '{');
    const conf = 'etc/containers/registries.conf.d/50-cistern.conf';
    await node.write(
      conf,
      (await readFile(join(node.root, conf), 'utf8')).replace(/(prefix = )"quay\.io"/, '$1"q"'),
    );
    expect(await examine(node)).toEqual([
      `ok mirror: ${url} answers`,
      expect.stringMatching(/^fail docker: \/etc\/docker\/daemon\.json: it is not JSON -> correct that file/),
      expect.stringMatching(/^fail containerd: ghcr\.io: not pulled through /),
      expect.stringMatching(/^fail podman: quay\.io: not pulled through /),
    ]);
  });

  it('finds a mirror that is not there, and one that is none', async () => {
    await using node = await untouched();
    const [gone] = await examine(node, 'http://127.0.0.1:9');
    expect(gone).toMatch(
      /^fail mirror: http:\/\/127\.0\.0\.1:9 does not answer: ECONNREFUSED -> see the address/,
    );
    const other = await examine(node, mirror.cistern.debugUrl);
    expect(other.slice(0, 2)).toEqual([
      expect.stringMatching(/^fail mirror: .* answers 404 to \/v2\//),
      expect.stringMatching(/^fail mirror: .* does not answer as a registry does/),
    ]);
    const [wrong] = await examine(node, mirror.cistern.url);
    expect(wrong).toMatch(/^fail mirror: .* UNABLE_TO_VERIFY_LEAF_SIGNATURE -> .*--ca/);
  });

  it.skipIf(lacks('skopeo'))(
    'pulls with a client that is there, and sees whether the mirror has counted it',
    async () => {
      await using plain = await startSecureMirror({ config: { http: {} } });
      await using node = await testNode();
      await node.write('usr/bin/skopeo', '');
      const { url, debugUrl } = plain.cistern;
      expect(await node.configure('--mirror', url)).toMatchObject({ code: 0 });
      const args = ['--pull', `docker.io/${repository}:v1`, '--metrics', `${debugUrl}/metrics`];
      // Where skopeo looks first, so that the machine's own file is out of the way.
      const used = '.config/containers/registries.conf';
      await node.write(used, await readFile(join(node.root, places.ownRegistries), 'utf8'));
      const through = await doctor(node, args);
      expect(through).toEqual({
        code: 0,
        lines: [
          `ok    mirror: ${url} answers`,
          `ok    podman: is told to pull docker.io, ghcr.io, quay.io through ${url}`,
          expect.stringMatching(
            /^ok {4}pull: skopeo has pulled docker\.io\/library\/app:v1, and the mirror has counted \d+ requests/,
          ),
        ],
      });
      const { host } = plain.upstreams['docker.io'];
      await node.write(used, `[[registry]]\nprefix = "docker.io"\nlocation = "${host}"\ninsecure = true\n`);
      const past = await doctor(node, args);
      expect(past.code).toBe(1);
      expect(past.lines.at(-1)).toMatch(
        /^fail {2}pull: .* the mirror has counted nothing meanwhile -> it came past the mirror/,
      );
    },
  );
});
