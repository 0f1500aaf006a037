import { stat } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { adminKey } from '../../src/admin/access.js';
import { identityOf } from '../parts/sealed.js';
import { startMirror } from '../parts/mirror.js';

it('a mirror without a debug port serves the admin API on a socket that is its own, to those with the token', async () => {
  await using mirror = await startMirror({ config: { http: { debug: undefined } } });
  const { cistern } = mirror;
  const { secret } = await identityOf(cistern.root);
  const key = adminKey(secret);
  const socketPath = key.socketFor(cistern.host);
  await expect.poll(() => cistern.log()).toContain('admin socket listens');
  const found = await stat(socketPath);
  expect(found.isSocket()).toBe(true);
  expect(found.mode & 0o777).toBe(0o600);

  const statusWith = async (headers: Record<string, string>): Promise<number | undefined> => {
    const asked = request({ socketPath, path: '/admin/v1/jobs', headers, agent: false }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    response.resume();
    return response.statusCode;
  };
  expect(await statusWith({})).toBe(401);
  expect(await statusWith({ Authorization: 'Bearer wrong' })).toBe(401);
  expect(await statusWith({ Authorization: `Bearer ${key.token}` })).toBe(200);

  await cistern.stop();
  await expect(stat(socketPath)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(cistern.log()).not.toContain(key.token);
  expect(cistern.log()).not.toContain(secret);
});
