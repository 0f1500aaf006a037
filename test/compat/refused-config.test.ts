import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runCistern } from '../parts/cistern.js';
import { temporaryFolder } from '../parts/folder.js';

const minimal = 'version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n';

it.each([
  [
    'a security setting that a variable leaves empty',
    '',
    { REGISTRY_AUTH: '' },
    ['auth', 'REGISTRY_AUTH', 'write `none`'],
  ],
  [
    'a list of grants with every entry commented out',
    'proxy:\n  remoteurl: https://r.example\n  access:\n    # - {users: [a]}\n',
    {},
    ['proxy.access'],
  ],
  [
    'an empty list of certificates for clients',
    'http: {tls: {certificate: c, key: k, clientcas: }}\n',
    {},
    ['http.tls.clientcas'],
  ],
  [
    'a lifetime without a unit',
    'proxy: {remoteurl: https://r.example, ttl: 168}\n',
    {},
    ['proxy.ttl', 'write 168h?'],
  ],
  [
    'a schedule without a unit',
    '',
    { REGISTRY_SCHEDULER_EXPIRE_SCHEDULE: '300' },
    ['scheduler.expire.schedule', '300 has no unit'],
  ],
])('serve ends with exit code 2 and names the key of %s', async (_, text, env, named) => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'config.yml');
  await writeFile(path, minimal + text);
  const { code, stderr } = await runCistern(['serve', path], { env });
  expect(code).toBe(2);
  for (const word of named) expect(stderr).toContain(word);
});
