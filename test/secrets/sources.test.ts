import { chmod, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  password,
  startPrivateRegistry,
  user,
  type PrivateRegistry,
} from '../credentials/private-registry.js';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';

const other = 'an0ther pässword';
const image = imageOf({ layers: [randomLayer(10_000, 'sources')] });
const unlike = imageOf({ layers: [randomLayer(10_000, 'unlike')] });

/** A program that answers with what is in the file `answer` beside it, and counts its runs in `runs`. */
async function writeHelper(
  folder: string,
): Promise<{ command: string; answer(secret: string): Promise<void> }> {
  const command = join(folder, 'docker-credential-test');
  await writeFile(command, `#!/bin/sh\necho "$1 $(cat)" >> ${folder}/runs\nexec cat ${folder}/answer\n`);
  await chmod(command, 0o755);
  return {
    command,
    answer: async (secret) => {
      await writeFile(
        join(folder, 'next'),
        JSON.stringify({ ServerURL: '', Username: user, Secret: secret }),
      );
      await rename(join(folder, 'next'), join(folder, 'answer'));
    },
  };
}

async function statusOf(cistern: Cistern, path: string): Promise<number> {
  const answer = await fetch(`${cistern.url}/v2/${path}/manifests/v1`);
  await answer.arrayBuffer();
  return answer.status;
}

async function filled(protection: 'htpasswd' | 'token server'): Promise<PrivateRegistry> {
  const registry = await startPrivateRegistry(protection);
  await registry.push('team/first', 'v1', image);
  await registry.push('team/second', 'v1', unlike);
  return registry;
}

const mirror = (proxy: Settings) => startCistern({ config: { proxy: { freshness: '1ms', ...proxy } } });

describe.skipIf(lacks('docker-registry', 'openssl')).each(['htpasswd', 'token server'] as const)(
  'a private registry with a %s',
  (protection) => {
    it('is pulled from with what a credential helper says, and with what it says next', async () => {
      await using folder = await temporaryFolder();
      await using registry = await filled(protection);
      const helper = await writeHelper(folder.path);
      await helper.answer(password);
      await using cistern = await mirror({ remoteurl: registry.url, exec: { command: helper.command } });
      expect(await statusOf(cistern, 'team/first')).toBe(200);
      expect(await readFile(join(folder.path, 'runs'), 'utf8')).toBe(`get ${new URL(registry.url).host}\n`);
      await registry.changePassword(other);
      await helper.answer(other);
      // The answer that is refused is given up some seconds after it was had.
      await expect.poll(() => statusOf(cistern, 'team/second')).toBe(200);
      const log = cistern.log();
      for (const secret of [password, JSON.stringify(password).slice(1, -1), other])
        expect(log).not.toContain(secret);
    });

    it('is pulled from with what a docker config.json has for it, also as a further upstream', async () => {
      await using folder = await temporaryFolder();
      await using registry = await filled(protection);
      const path = join(folder.path, 'config.json');
      const write = async (host: string, secret: string): Promise<void> => {
        const auth = Buffer.from(`${user}:${secret}`).toString('base64');
        // That of another host is not for it, whatever images call it.
        const foreign = Buffer.from(`${user}:${other}`).toString('base64');
        const auths = {
          'private.example': { auth: foreign },
          'docker.io': { auth: foreign },
          [host]: { auth },
        };
        await writeFile(path, JSON.stringify({ auths }));
      };
      await write(new URL(registry.url).host, password);
      const upstreams = [
        { host: 'private.example', url: registry.url },
        { host: 'own.example', url: registry.url, username: user, password },
      ];
      await using cistern = await mirror({
        remoteurl: 'http://127.0.0.1:9',
        dockerconfigjson: path,
        upstreams,
      });
      expect(await statusOf(cistern, 'private.example/team/first')).toBe(200);
      expect(await statusOf(cistern, 'own.example/team/first')).toBe(200);
      await registry.changePassword(other);
      await write(new URL(registry.url).host, other);
      await expect.poll(() => statusOf(cistern, 'private.example/team/second')).toBe(200);
    });
  },
);

describe.skipIf(lacks('docker-registry', 'openssl'))('a credential helper that fails', () => {
  it('is trouble: what is cached is served, the rest is 503, and one line says why', async () => {
    await using folder = await temporaryFolder();
    await using registry = await filled('htpasswd');
    const helper = await writeHelper(folder.path);
    await helper.answer(password);
    const exec = { command: helper.command, lifetime: '0s' };
    await using cistern = await mirror({
      upstreams: [{ host: 'private.example', url: registry.url, exec }],
    });
    expect(await statusOf(cistern, 'private.example/team/first')).toBe(200);
    await writeFile(
      helper.command,
      `#!/bin/sh\necho "no session for ${password.replaceAll(/[^\w]/g, '')}"; exit 1\n`,
    );
    const stale = await fetch(`${cistern.url}/v2/private.example/team/first/manifests/v1`);
    expect([stale.status, stale.headers.get('warning')]).toEqual([
      200,
      expect.stringContaining('credentials-refused'),
    ]);
    expect(await statusOf(cistern, 'private.example/team/second')).toBe(503);
    await expect.poll(() => cistern.log()).toContain('ended with 1: no session for');
    expect(cistern.log().split('the credential helper gives no credentials')).toHaveLength(2);
  });
});
