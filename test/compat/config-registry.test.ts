import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { commandOf, lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { freePort } from '../parts/ports.js';
import { runSuccessfully, startProcess, untilLogged, untilReady } from '../parts/process.js';

const examples = fileURLToPath(new URL('../../deploy/config/', import.meta.url));
const names = readdirSync(examples).filter((name) => name.endsWith('.yml'));

interface Upstream extends AsyncDisposable {
  readonly url: string;
}

const emptyBucket = '<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>';

/** As much of an upstream, and of a bucket, as registry asks for when it starts. */
async function startUpstream(): Promise<Upstream> {
  const server = createServer(({ url = '' }, response) =>
    response.end(url.includes('prefix=') ? emptyBucket : '{}'),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The example with its paths in the folder and its ports on loopback; everything else stays as it is shipped. */
async function adapt(name: string, folder: string, upstream: string): Promise<string> {
  const changes: [RegExp, string][] = [
    [/rootdirectory: \S+/, `rootdirectory: ${join(folder, 'data')}`],
    [/remoteurl: \S+/, `remoteurl: ${upstream}`],
    [/(\n {2}addr:) \S+/, `$1 127.0.0.1:${await freePort()}`],
    [/(\n {4}addr:) \S+/, `$1 127.0.0.1:${await freePort()}`],
    [/regionendpoint: \S+/, `regionendpoint: ${upstream}`],
    [/\/etc\/cistern/g, folder],
    [/\/run\/secrets/g, folder],
  ];
  const shipped = await readFile(join(examples, name), 'utf8');
  const path = join(folder, 'config.yml');
  await writeFile(
    path,
    changes.reduce((text, [from, to]) => text.replace(from, to), shipped),
  );
  return path;
}

/** What Swarm puts below /run/secrets. */
async function writeSecrets(folder: string): Promise<void> {
  const names = ['redis_password', 'cluster_secret', 's3_access_key', 's3_secret_key'];
  for (const name of names) await writeFile(join(folder, name), 'only-for-tests');
  await writeFile(join(folder, 'upstreams'), '{"auths":{}}');
}

async function writeCertificate(folder: string): Promise<void> {
  await runSuccessfully(
    commandOf('openssl'),
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=localhost',
    ].concat(['-keyout', join(folder, 'tls.key'), '-out', join(folder, 'tls.crt'), '-days', '1']),
  );
}

describe.skipIf(lacks('docker-registry', 'openssl'))('every example', () => {
  it.each(names)('%s starts the real registry, and loads here without a warning', async (name) => {
    await using folder = await temporaryFolder();
    await using upstream = await startUpstream();
    await writeHtpasswd({ alice: 'secret' }, folder.path);
    await writeCertificate(folder.path);
    await writeSecrets(folder.path);
    const config = await adapt(name, folder.path, upstream.url);
    expect(loadConfig({ path: config, env: {}, cwd: folder.path }).warnings).toEqual([]);
    await using registry = await startProcess(commandOf('docker-registry'), ['serve', config], {
      // Keys in files are ours: registry looks for them here.
      env: {
        AWS_CA_BUNDLE: undefined,
        AWS_ACCESS_KEY_ID: 'key',
        AWS_SECRET_ACCESS_KEY: 'secret',
        OTEL_TRACES_EXPORTER: 'none',
      },
      cwd: folder.path,
    });
    await untilReady(registry, name, (signal) => untilLogged(registry, /listening on 127\.0\.0\.1/, signal));
  });
});
