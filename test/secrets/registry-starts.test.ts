import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import type { Settings } from '../parts/cistern.js';
import { commandOf, lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { freePort } from '../parts/ports.js';
import { startProcess, untilLogged, untilReady } from '../parts/process.js';

const examples: [string, (file: string, url: string) => Settings][] = [
  [
    'filesystem',
    (file, url) => ({
      storage: { filesystem: { rootdirectory: `${file}.root` } },
      redis: { addr: '127.0.0.1:9', passwordfile: file, sentinelpasswordfile: file },
      cluster: { secretfile: file },
      proxy: {
        remoteurl: url,
        exec: { command: 'docker-credential-test', lifetime: '1h' },
        dockerconfigjson: file,
        upstreams: [
          { host: 'a.example', url, exec: { command: 'docker-credential-test' } },
          { host: 'b.example', url, username: 'u', passwordfile: file },
        ],
      },
    }),
  ],
  [
    // Without a proxy section, with which it would ask the bucket before it listens.
    's3',
    (file) => ({
      storage: {
        s3: {
          region: 'us-east-1',
          bucket: 'b',
          regionendpoint: 'http://127.0.0.1:9',
          accesskeyfile: file,
          secretkeyfile: file,
          sessiontokenfile: file,
          ca: file,
        },
      },
    }),
  ],
];

describe.skipIf(lacks('docker-registry'))('a configuration whose secrets are in files', () => {
  it.each(examples)('has no key that is unknown here, and starts the real registry (%s)', async (_, keys) => {
    await using folder = await temporaryFolder();
    await using upstream = await FakeUpstream.start();
    const file = join(folder.path, 'secret');
    await writeFile(file, 'secret');
    const config = join(folder.path, 'config.yml');
    const settings = {
      version: 0.1,
      http: { addr: `127.0.0.1:${await freePort()}` },
      ...keys(file, upstream.url),
    };
    await writeFile(config, stringify(settings));
    const { warnings } = loadConfig({ path: config, env: {}, cwd: folder.path });
    expect(warnings.filter(({ key }) => key !== 'auth' && key !== 'proxy')).toEqual([]);
    await using registry = await startProcess(commandOf('docker-registry'), ['serve', config], {
      env: { AWS_CA_BUNDLE: undefined, OTEL_TRACES_EXPORTER: 'none' },
      cwd: folder.path,
    });
    await untilReady(registry, 'docker-registry', (signal) =>
      untilLogged(registry, /listening on 127\.0\.0\.1/, signal),
    );
  });
});
