import { appendFile, readFile } from 'node:fs/promises';
import { Agent, get } from 'node:https';
import { describe, expect, it, onTestFinished } from 'vitest';
import { basicOf } from '../credentials/private-registry.js';
import { makeOwnCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { startMirror } from '../parts/mirror.js';
import { get as requestOf, say } from './raw.js';

const answers = (text: string): number => text.split('HTTP/1.1 200 OK').length - 1;

it('one request may come before the answer to the last is out, and no more of them', async () => {
  await using mirror = await startMirror();
  const { url } = mirror.cistern;
  const last = requestOf('/v2/');
  const kept = last.replace('close', 'keep-alive');
  expect(answers(await say(url, kept + last))).toBe(2);
  expect(answers(await say(url, kept + kept + last))).toBeLessThan(3);
});

describe.skipIf(lacks('openssl'))('over TLS', () => {
  it('a client that asks again the moment it has an answer is never cut', async () => {
    await using folder = await temporaryFolder();
    const tls = await makeOwnCertificate(folder.path, 'mirror');
    const path = await writeHtpasswd({ ann: 'right' }, folder.path);
    const guests = Array.from({ length: 200 }, (_, round) => `guest${round}`);
    const entry = await readFile(path, 'utf8');
    await appendFile(path, guests.map((guest) => entry.trim().replace('ann', guest)).join('\n'));
    await using mirror = await startMirror({
      config: { http: { tls }, auth: { htpasswd: { realm: 'mirror', path } } },
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const ask = (user: string): Promise<number | undefined> => {
      const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
      const headers = { authorization: basicOf(user, 'right') };
      get(mirror.url(''), { agent, headers, rejectUnauthorized: false }, (response) => {
        response.resume().once('end', () => resolve(response.statusCode));
      }).once('error', reject);
      return promise;
    };
    // A password that is compared is answered late in a turn of the loop, and its answer counts as sent in the next.
    for (const guest of guests) {
      expect(await ask(guest)).toBe(200);
      expect(await ask('ann')).toBe(200);
    }
  });
});
