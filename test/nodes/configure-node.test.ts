import { lstat, mkdir, readFile, readlink, stat, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { filesUnder } from '../parts/mirror.js';
import { registries, startSecureMirror, testNode, type SecureMirror, type TestNode } from './node.js';

/** Every file of a folder with its content, its rights and its owner. */
async function stateOf(root: string): Promise<Record<string, string>> {
  const state: Record<string, string> = {};
  for (const path of await filesUnder(root)) {
    const { mode, uid, gid } = await stat(join(root, path));
    const link = (await lstat(join(root, path))).isSymbolicLink();
    const content = link ? await readlink(join(root, path)) : await readFile(join(root, path), 'base64');
    state[path] = `${mode.toString(8)} ${uid}:${gid} ${content}`;
  }
  return state;
}

const byHand = {
  daemon:
    '{\n\t"storage-driver": "overlay2",\n\t"registry-mirrors": [\n\t\t"https://older.example"\n\t],\n\t"debug": false\n}\n',
  hosts: 'server = "https://quay.io"\n\n[host."https://other.example"]\n  capabilities = ["pull"]\n',
  containerd: '# mine\nversion = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = ""\n',
  registries: 'unqualified-search-registries = ["docker.io"]\n',
};

describe.skipIf(lacks('openssl'))('configure-node', () => {
  let mirror: SecureMirror;
  let all: readonly string[];
  beforeAll(async () => {
    mirror = await startSecureMirror();
    all = ['--mirror', mirror.cistern.url, '--ca', mirror.ca, '--runtime', 'docker', 'containerd', 'crio'];
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  async function nodeByHand(): Promise<TestNode> {
    const node = await testNode();
    await node.write('etc/docker/daemon.json', byHand.daemon, 0o600);
    await node.write('etc/containerd/certs.d/quay.io/hosts.toml', byHand.hosts);
    await node.write('etc/containerd/config.toml', byHand.containerd);
    await node.write('etc/containers/registries.conf', byHand.registries);
    return node;
  }

  it('keeps what is written by hand, does nothing twice, and takes all of it back, byte for byte', async () => {
    await using node = await nodeByHand();
    const before = await stateOf(node.root);

    const shown = await node.configure(...all, '--dry-run', '--set-config-path');
    expect(shown).toMatchObject({ code: 0 });
    expect(shown.stdout).toContain(`+\t\t"${mirror.cistern.url}",\n \t\t"https://older.example"`);
    expect(shown.stdout).toContain('--- /dev/null\n+++ b/etc/containers/registries.conf.d/50-cistern.conf');
    expect(await stateOf(node.root)).toEqual(before);

    const done = await node.configure(...all, '--set-config-path');
    expect(done).toMatchObject({ code: 0 });
    expect(done.stdout).toContain('changed /etc/docker/daemon.json\n');
    const then = done.stdout.split('\n').filter((line) => line.startsWith('then: '));
    expect(then).toEqual([
      'then: systemctl reload docker',
      'then: systemctl restart containerd',
      'then: systemctl reload crio',
    ]);
    const daemon = await readFile(join(node.root, 'etc/docker/daemon.json'), 'utf8');
    expect(daemon).toBe(byHand.daemon.replace('[\n', `[\n\t\t"${mirror.cistern.url}",\n`));
    expect((await stat(join(node.root, 'etc/docker/daemon.json'))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(node.root, 'etc/containerd/config.toml'), 'utf8')).toBe(
      byHand.containerd.replace('""', '"/etc/containerd/certs.d"'),
    );

    const after = await stateOf(node.root);
    expect(await node.configure(...all, '--set-config-path')).toMatchObject({
      code: 0,
      stdout: 'nothing to do\n',
    });
    expect(await stateOf(node.root)).toEqual(after);

    expect(await node.configure('--undo')).toMatchObject({ code: 0 });
    expect(await stateOf(node.root)).toEqual(before);
    expect(await filesUnder(node.root)).not.toContain('var/lib/cistern/node/journal.json');
    expect(await node.configure('--undo')).toMatchObject({ code: 0, stdout: 'nothing to do\n' });
  });

  it('leaves no file and no folder where there was none', async () => {
    await using node = await testNode();
    expect(await node.configure(...all)).toMatchObject({ code: 0 });
    expect(await filesUnder(node.root)).not.toEqual([]);
    expect(await node.configure('--undo')).toMatchObject({ code: 0 });
    await mkdir(join(node.root, 'etc')); // gone with all that was below it
  });

  it('refuses to take back what was edited since, until it is forced', async () => {
    await using node = await nodeByHand();
    const before = await stateOf(node.root);
    expect(await node.configure(...all)).toMatchObject({ code: 0 });
    const daemon = await readFile(join(node.root, 'etc/docker/daemon.json'), 'utf8');
    await node.write('etc/docker/daemon.json', daemon.replace('false', 'true'));
    const edited = await stateOf(node.root);

    const refused = await node.configure('--undo');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('edited since it was written: /etc/docker/daemon.json');
    expect(await stateOf(node.root)).toEqual(edited);

    // Nor when the command has been there again meanwhile, with more to do.
    expect(await node.configure(...all, '--set-config-path')).toMatchObject({ code: 0 });
    const further = daemon.replace('false', 'true').replace(mirror.cistern.url, 'https://another.example');
    await node.write('etc/docker/daemon.json', further);
    expect(await node.configure(...all)).toMatchObject({ code: 0 });
    expect(await node.configure('--undo')).toMatchObject({ code: 1 });

    expect(await node.configure('--undo', '--force')).toMatchObject({ code: 0 });
    expect(await stateOf(node.root)).toEqual(before);
  });

  it('writes where a link leads, and nowhere outside of the root', async () => {
    await using node = await testNode();
    await node.write('opt/daemon.json', '{}\n');
    await mkdir(join(node.root, 'etc/docker'), { recursive: true });
    await symlink('../../opt/daemon.json', join(node.root, 'etc/docker/daemon.json'));
    expect(await node.configure(...all)).toMatchObject({ code: 0 });
    expect((await lstat(join(node.root, 'etc/docker/daemon.json'))).isSymbolicLink()).toBe(true);
    expect(await readFile(join(node.root, 'opt/daemon.json'), 'utf8')).toContain(mirror.cistern.url);

    await using hostile = await testNode();
    await using elsewhere = await testNode();
    await elsewhere.write('daemon.json', '{}');
    await mkdir(join(hostile.root, 'etc/docker'), { recursive: true });
    await symlink(join(elsewhere.root, 'daemon.json'), join(hostile.root, 'etc/docker/daemon.json'));
    expect(await hostile.configure(...all)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('/etc/docker/daemon.json leads out of') as string,
    });
    expect(await readFile(join(elsewhere.root, 'daemon.json'), 'utf8')).toBe('{}');
  });

  it('leaves a registry as podman has it by hand, and says when containerd reads no hosts', async () => {
    await using node = await testNode();
    await node.write(
      'etc/containers/registries.conf.d/10-own.conf',
      '[[registry]]\nlocation = "ghcr.io"\nblocked = true\n',
    );
    const { code, stderr } = await node.configure(...all);
    expect(code).toBe(0);
    expect(stderr).toContain('ghcr.io is left as /etc/containers/registries.conf.d/10-own.conf has it');
    expect(stderr).toContain(
      '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"',
    );
    const own = await readFile(join(node.root, 'etc/containers/registries.conf.d/50-cistern.conf'), 'utf8');
    expect(own).toContain('prefix = "quay.io"');
    expect(own).not.toContain('ghcr.io');
  });

  it('for programs, answers in JSON', async () => {
    await using node = await testNode();
    const args = ['configure-node', '--root', node.root, ...all, '--dry-run', '--json'];
    const { code, stdout, stderr } = await runCistern(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      mirror: mirror.cistern.url,
      registries,
      runtimes: ['docker', 'containerd', 'crio'],
      reload: ['systemctl reload docker', 'systemctl reload crio'],
      files: expect.arrayContaining([
        { path: '/etc/docker/daemon.json', change: 'made', diff: expect.any(String) as string },
      ]) as unknown[],
    });
  });

  it.each<[string, readonly string[], number, RegExp]>([
    ['no mirror', [], 2, /--mirror https:\/\/HOST is missing/],
    ['a mirror with a path', ['--mirror', 'https://a/b'], 2, /wanted https:\/\/HOST/],
    ['a registry that is no host', ['--mirror', 'https://a', '--upstream', '../etc'], 2, /wanted a host/],
    ['a runtime that nobody knows', ['--mirror', 'https://a', '--runtime', 'rkt'], 2, /wanted one of docker/],
    ['a mirror that is not there', ['--mirror', 'http://127.0.0.1:9'], 1, /does not answer: ECONNREFUSED/],
  ])('says what is wrong with %s, and touches nothing', async (_, args, code, message) => {
    await using node = await nodeByHand();
    const before = await stateOf(node.root);
    const output = await node.configure(...args);
    expect(output).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(message) as string });
    expect(await stateOf(node.root)).toEqual(before);
  });

  it('trusts a mirror only by an authority that it knows', async () => {
    await using node = await testNode();
    const { code, stderr } = await node.configure('--mirror', mirror.cistern.url, '--runtime', 'docker');
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('UNABLE_TO_VERIFY') as string,
    });
    expect(await filesUnder(node.root)).toEqual([]);
  });

  it.each<[string, string]>([
    ['a host that is a path', '{"upstreams": [{"host": "ghcr.io"}, {"host": "../../../tmp"}]}'],
    ['a host that is TOML', '{"upstreams": [{"host": "a\\"]\\n[x"}]}'],
    ['no list', '{"upstreams": "ghcr.io"}'],
    ['no JSON', '<html>'],
  ])('takes no word of a mirror that says %s', async (_, body) => {
    await using node = await testNode();
    const server = createServer((_request, response) => response.end(body));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const { code, stderr } = await node.configure('--mirror', url, '--runtime', 'docker', 'containerd');
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining('does not answer as this mirror does') as string,
      });
      expect(await filesUnder(node.root)).toEqual([]);
    } finally {
      server.close();
    }
  });

  it('stops at a file that its program could not read either', async () => {
    await using node = await testNode();
    await node.write('etc/docker/daemon.json', '{"debug": true,}');
    expect(await node.configure(...all)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('/etc/docker/daemon.json: it is not JSON') as string,
    });
    expect(await filesUnder(node.root)).toEqual(['etc/docker/daemon.json']);
  });
});
