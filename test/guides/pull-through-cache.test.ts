import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cisternImage } from '../parts/cistern-image.js';
import { lacks } from '../parts/debian.js';
import { busyboxImage, type Image } from '../parts/image.js';
import {
  dockerOptionsOn,
  downloaded,
  type Machine,
  type PublicRegistry,
  publishedConfig,
  pullAnew,
  startMachine,
  untilKept,
  untilUp,
} from './machine.js';

const saying = (text: string): Image => busyboxImage({ command: ['/bin/echo', text] });
const first = saying('first');
const second = saying('second');

describe.skipIf(lacks('dockerd', 'docker-registry', 'busybox', 'openssl', 'curl', 'root'))(
  "Docker's recipe for a pull through cache",
  () => {
    const cleanup = new AsyncDisposableStack();
    let machine: Machine;
    let hub: PublicRegistry;

    beforeAll(async () => {
      machine = cleanup.use(await startMachine({ mirror: 'http://mirror-host:5000' }));
      const images = { 'team/private:latest': first, 'team/private:next': second };
      hub = await machine.startRegistry('registry-1.docker.io', images, { someone: 'some-token' });
    });
    afterAll(() => cleanup.disposeAsync());

    it('with an account of Docker Hub in the configuration, clients without one pull what it may', async () => {
      await writeFile(join(machine.folder, 'config.yml'), await publishedConfig('hub-credentials.yml'));
      await machine.type('docker network create mirrors'); // an Engine of one's own has no default bridge
      const options = [
        '--network mirrors',
        '-p 5000:5000 --name mirror -v "$PWD/config.yml:/etc/docker/registry/config.yml"',
        '-v mirror_data:/var/lib/registry -e REGISTRY_PROXY_FRESHNESS=1ms',
        dockerOptionsOn(machine),
      ];
      await machine.type(`docker run -d ${options.join(' ')} ${cisternImage}`);
      await untilUp(machine, 'http://mirror-host:5000');
      expect((await machine.shell('docker pull registry-1.docker.io/team/private')).code).toBe(1);
      await machine.type('docker pull team/private');
      expect(await machine.type('docker run --rm --network none team/private')).toBe('first');
    });

    it('the log warns of what that opens, and shows its level', async () => {
      const log = await machine.type('docker logs mirror 2>&1');
      expect(log).toMatch(/^time="\S+" level=warning msg=".*\bauth\b/m);
      expect(log).toMatch(/^time="\S+" level=info msg=listening/m);
    });

    it('when a tag changes on Docker Hub, the next pull brings the new content', async () => {
      const tags = join(hub.root, 'docker/registry/v2/repositories/team/private/_manifests/tags');
      await rename(join(tags, 'latest'), join(tags, 'before'));
      await rename(join(tags, 'next'), join(tags, 'latest'));
      await machine.type('docker pull team/private');
      expect(await machine.type('docker run --rm --network none team/private')).toBe('second');
      await untilKept(machine, 'mirror', second);
    });

    it('what was pulled once comes from the storage, also for the next container over it', async () => {
      await hub.stop();
      await machine.type('docker restart -t 0 mirror');
      await untilUp(machine, 'http://mirror-host:5000');
      expect(await pullAnew(machine, 'team/private')).toEqual(downloaded);
      expect(await machine.type('docker run --rm --network none team/private')).toBe('second');
    });
  },
);
