import { cp, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { filesUnder } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { startProcess, untilLogged } from '../parts/process.js';
import { patience } from '../parts/patience.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
/** What building and starting need; a checkout has no `dist`. */
const sources = [
  'package.json',
  'package-lock.json',
  'nest-cli.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'scripts',
  'src',
  'deploy',
];

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('npm start in a fresh checkout', () => {
  it('builds, mirrors into ./data, and ends when npm is told to', async () => {
    await using folder = await temporaryFolder();
    for (const path of sources) {
      await cp(join(checkout, path), join(folder.path, path), { recursive: true });
    }
    await symlink(join(checkout, 'node_modules'), join(folder.path, 'node_modules'));
    await using upstream = await FakeUpstream.start();
    const image = imageOf({ layers: [randomLayer(1000, 'npm')] });
    upstream.addImage('team/app', 'v1', image);
    const host = `127.0.0.1:${await freePort()}`;
    await using npm = await startProcess('npm', ['start'], {
      cwd: folder.path,
      env: {
        REGISTRY_HTTP_ADDR: host,
        REGISTRY_HTTP_DRAINDELAY: '0s',
        REGISTRY_HTTP_DEBUG_ADDR: `127.0.0.1:${await freePort()}`,
        REGISTRY_PROXY_REMOTEURL: upstream.url,
      },
    });
    const failed = npm.exited.then(({ code }) => Promise.reject(new Error(`npm ended with ${code}`)));
    failed.catch(() => {});
    await Promise.race([untilLogged(npm, /msg=listening .*pid=\d+/, patience()), failed]);
    const pid = Number(/msg=listening .*pid=(\d+)/.exec(npm.log())?.[1]);
    try {
      expect((await fetch(`http://${host}/v2/`)).status).toBe(200);
      const manifest = await fetch(`http://${host}/v2/team/app/manifests/v1`);
      expect(manifest.headers.get('docker-content-digest')).toBe(image.manifest.digest);
      await manifest.arrayBuffer();
      expect(await filesUnder(join(folder.path, 'data'))).toContain('cistern/cluster.json');
      npm.kill('SIGTERM');
      expect(await npm.exited).toEqual({ code: 0, signal: null });
      expect(npm.log()).toContain('msg=stopped');
      expect(isRunning(pid)).toBe(false);
    } finally {
      if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    }
  });
});
