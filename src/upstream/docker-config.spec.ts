import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { settleMs } from '../config/watched-file.js';
import { DockerConfig, parseDockerConfig } from './docker-config.js';

const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
const textOf = (auths: unknown): string => JSON.stringify({ auths, credsStore: 'desktop' });

describe('a docker config.json', () => {
  it.each([
    ['ghcr.io', 'ghcr.io'],
    ['https://GHCR.io', 'ghcr.io'],
    ['http://registry.local:5000/v2/', 'registry.local:5000'],
    ['https://index.docker.io/v1/', 'docker.io'],
    ['registry-1.docker.io', 'docker.io'],
  ])('has %s for %s', (key, host) => {
    const logins = parseDockerConfig(textOf({ [key]: auth('us:p:ä') }));
    expect([...logins]).toEqual([[host, { username: 'us', password: 'p:ä' }]]);
  });

  it.each([
    ['a part of a host', 'ghcr.io/owner', auth('u:p')],
    ['no password', 'ghcr.io', auth('u:')],
    ['no user', 'ghcr.io', auth(':p')],
    ['an identity token alone', 'ghcr.io', { identitytoken: 't' }],
    ['a password alone', 'ghcr.io', { password: 't' }],
    ['nothing', 'ghcr.io', {}],
    ['no section', 'ghcr.io', 'u:p'],
  ])('leaves out %s', (_, key, entry) => {
    expect(parseDockerConfig(textOf({ [key]: entry })).size).toBe(0);
  });

  it('may have names and passwords as they are, as kubectl writes them', () => {
    const logins = parseDockerConfig(textOf({ 'ghcr.io': { username: 'u', password: 'p' } }));
    expect(logins.get('ghcr.io')).toEqual({ username: 'u', password: 'p' });
  });

  it.each(['', 'hunter2', '[]', '{"auths": "hunter2"}', '{"auth": {"ghcr.io": {"auth": "hunter2'])(
    'that is none is refused, and not quoted (%s)',
    (text) => {
      expect(() => parseDockerConfig(text)).toThrow(
        expect.objectContaining({
          code: 'docker-config',
          message: expect.not.stringContaining('hunter2') as unknown,
        }),
      );
    },
  );

  it('is read again when it changes, and gives each upstream its own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'docker-config-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const path = join(folder, 'config.json');
    await writeFile(path, textOf({ 'ghcr.io': auth('u:first'), 'docker.io': auth('hub:p') }));
    const config = new DockerConfig(path, { error: () => undefined });
    const github = config.credentialsFor('ghcr.io');
    expect(await github.login()).toEqual({ username: 'u', password: 'first' });
    const hub = config.credentialsFor('registry-1.docker.io');
    expect(await hub.login()).toEqual({ username: 'hub', password: 'p' });
    expect(await config.credentialsFor('quay.io').login()).toBeUndefined();
    await writeFile(path, textOf({ 'ghcr.io': auth('u:the second') }));
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * settleMs });
    onTestFinished(() => void vi.useRealTimers());
    expect(await github.login()).toEqual({ username: 'u', password: 'the second' });
    expect(await hub.login()).toBeUndefined();
  });
});
