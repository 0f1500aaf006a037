import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { HeadObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { S3Config } from '../../src/config/config.js';
import { settleMs } from '../../src/config/watched-file.js';
import { readingClient } from '../../src/storage/s3/client.js';
import { makeOwnCertificate, readPemPair } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';

const log = { error: () => undefined };

describe.skipIf(lacks('openssl'))('the client of S3', () => {
  it('reads its keys from their files again when they change, and trusts the authorities that it is told of', async () => {
    await using folder = await temporaryFolder();
    const pair = await makeOwnCertificate(folder.path, 'storage');
    const seen: { key: string | undefined; token: unknown }[] = [];
    const server = createServer(await readPemPair(pair), (request, response) => {
      const { authorization, 'x-amz-security-token': token } = request.headers;
      seen.push({ key: /Credential=([^/]+)\//.exec(authorization ?? '')?.[1], token });
      response.writeHead(200).end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const files = {
      accesskeyfile: join(folder.path, 'access'),
      secretkeyfile: join(folder.path, 'secret'),
      sessiontokenfile: join(folder.path, 'session'),
    };
    const write = (name: string) =>
      Promise.all(Object.entries(files).map(([kind, path]) => writeFile(path, `${kind}-${name}\n`)));
    const config: S3Config = {
      region: 'us-east-1',
      bucket: 'b',
      endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      forcepathstyle: true,
      accesskey: undefined,
      secretkey: undefined,
      sessiontoken: undefined,
      rootdirectory: '',
      chunksize: 5 * 1024 * 1024,
      localcopies: 0,
      encrypt: false,
      keyid: undefined,
      storageclass: undefined,
      objectacl: undefined,
      secure: true,
      skipverify: false,
      useragent: undefined,
      accelerate: false,
      usedualstack: false,
      ...files,
    };
    await write('one');
    const object = new HeadObjectCommand({ Bucket: 'b', Key: 'k' });

    const stranger = readingClient(config, log);
    await expect(stranger.send(object)).rejects.toThrow(/self-signed|self signed/);
    stranger.destroy();

    const client = readingClient({ ...config, ca: pair.certificate }, log);
    onTestFinished(() => client.destroy());
    await client.send(object);
    await client.send(object);
    await write('another');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * settleMs });
    onTestFinished(() => void vi.useRealTimers());
    await client.send(object);
    expect(await getSignedUrl(client, object)).toContain('accesskeyfile-another');
    expect(seen).toEqual(
      ['one', 'one', 'another'].map((name) => ({
        key: `accesskeyfile-${name}`,
        token: `sessiontokenfile-${name}`,
      })),
    );
  });
});
