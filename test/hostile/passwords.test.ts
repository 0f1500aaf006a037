import { appendFile, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { basicOf } from '../credentials/private-registry.js';
import { runCistern } from '../parts/cistern.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { type Mirror, startMirror } from '../parts/mirror.js';
import { dial, get, say } from './raw.js';

const manifest = '/v2/app/manifests/v1';
/** As many characters as a bcrypt hash has after its cost. */
const rest = 'a'.repeat(53);

let folder: TemporaryFolder;
let path: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder.path, 'htpasswd');
});
afterEach(() => folder[Symbol.asyncDispose]());

async function startWithUser(cost: number, http: object = {}): Promise<Mirror> {
  await writeFile(path, `ann:${await hash('right', cost)}\n`);
  const mirror = await startMirror({ config: { http, auth: { htpasswd: { realm: 'mirror', path } } } });
  mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(1_000, 'passwords')] }));
  return mirror;
}

const as = (user: string, password: string): string => `Authorization: ${basicOf(user, password)}`;
const statusOf = (answer: string): number => Number(answer.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));

it('answers other requests while wrong passwords from many addresses wait for their check', async () => {
  await using mirror = await startWithUser(13); // some tenths of a second for each check
  const { url } = mirror.cistern;
  const pull = () => say(url, get(manifest, [as('ann', 'right')]));
  // On a busy machine the check may take longer than the mirror waits for it. Then the mirror answers 503.
  await expect.poll(async () => statusOf(await pull())).toBe(200);
  using connections = new DisposableStack();
  let answered = 0;
  for (let index = 1; index <= 30; index += 1) {
    const connection = connections.use(await dial(url, `127.0.1.${index}`));
    connection.socket.once('data', () => (answered += 1));
    connection.socket.write(get(manifest, [as('ann', `wrong ${index}`)]));
  }
  for (let count = 0; count < 25; count += 1) {
    expect(statusOf(await pull())).toBe(200);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
  }
  expect(answered).toBeLessThan(30);
});

describe('an address that sends many wrong passwords', () => {
  it.each([
    ['by itself', {}, (client: number) => ({ from: `127.0.2.${client}`, headers: [] as string[] })],
    [
      'behind a trusted proxy',
      { trustedproxies: ['127.0.0.1'] },
      (client: number) => ({ from: '127.0.0.1', headers: [`X-Forwarded-For: 198.51.100.${client}`] }),
    ],
  ])('%s has to wait, and no other address has to', async (_, http, client) => {
    await using mirror = await startWithUser(4, http);
    const login = (number: number, password: string, url = manifest): Promise<string> => {
      const { from, headers } = client(number);
      return say(mirror.cistern.url, get(url, [...headers, as('ann', password)]), from);
    };
    expect(statusOf(await login(1, 'right'))).toBe(200);
    const statuses = new Set<number>();
    for (let count = 0; count < 500 && !statuses.has(503); count += 1) {
      statuses.add(statusOf(await login(1, `wrong ${count}`)));
    }
    expect([...statuses]).toEqual([401, 503]);
    // Several at once, because the address may send one more password every few seconds.
    const further = Array.from({ length: 20 }, (__, index) =>
      login(1, `further ${index}`, `/v2/ghcr.io${manifest.slice(3)}`),
    );
    const delayed = (await Promise.all(further)).find((answer) => statusOf(answer) === 429);
    expect(delayed).toMatch(/Retry-After: \d+\r\n[^]*"TOOMANYREQUESTS"/);
    expect(statusOf(await login(1, 'right')), 'a remembered password').toBe(200);
    expect(statusOf(await login(2, 'wrong'))).toBe(401);
    expect(statusOf(await login(3, 'right'))).toBe(200);
  });

  it('does not wait for one wrong password that it repeats', async () => {
    await using mirror = await startWithUser(4);
    for (let count = 0; count < 60; count += 1) {
      expect(statusOf(await say(mirror.cistern.url, get(manifest, [as('ann', 'wrong')])))).toBe(401);
    }
  });
});

describe('a line of the htpasswd file that cannot be checked', () => {
  const lines = [
    ['$2x$', `bob:$2x$05$${rest}`, /version 2x/],
    ['cost 31', `bob:$2y$31$${rest}`, /cost 31/],
    ['half a hash', `bob:$2y$05$${rest.slice(9)}`, /incomplete/],
  ] as const;

  it.each(lines)('stops the start, and the error names the line: %s', async (_, line, fault) => {
    await writeFile(path, `ann:$2y$05$${rest}\n${line}\n`);
    const config = join(folder.path, 'config.yml');
    const storage = { filesystem: { rootdirectory: join(folder.path, 'root') } };
    await writeFile(config, stringify({ version: 0.1, storage, auth: { htpasswd: { realm: 'r', path } } }));
    const { code, stderr } = await runCistern(['serve', config]);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(fault) as string });
    expect(stderr).toContain('auth.htpasswd.path, line 2');
    expect(stderr).not.toContain(rest.slice(9));
  });

  it.each(lines)(
    'leaves the previous entries in use, and the log names the line: %s',
    async (_, line, fault) => {
      await using mirror = await startWithUser(4);
      const status = async (user: string) =>
        statusOf(await say(mirror.cistern.url, get(manifest, [as(user, 'right')])));
      const next = join(folder.path, 'next');
      const valid = await readFile(path, 'utf8');
      await writeFile(next, `${valid}${line}\n`);
      await rename(next, path);
      expect(await status('ann')).toBe(200);
      expect(await status('bob')).toBe(401);
      await expect.poll(() => mirror.cistern.log()).toContain('auth.htpasswd.path, line 2');
      expect(mirror.cistern.log()).toMatch(fault);
      await writeFile(next, valid);
      await appendFile(next, `bob:${await hash('right', 4)}\n`);
      await rename(next, path);
      expect(await status('bob')).toBe(200);
    },
  );
});
