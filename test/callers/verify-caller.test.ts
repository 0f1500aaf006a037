import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { basicOf } from '../credentials/private-registry.js';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { movableClock } from '../parts/clock.js';
import { lacks } from '../parts/debian.js';
import { type DockerRegistry, startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { contentsOf, imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError, untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';
import { skopeoCopy } from '../parts/skopeo.js';

const users = { mirror: 'mirror-passw0rd', ada: 'ada-passw0rd', bob: 'bob-passw0rd' };
const ada = basicOf('ada', users.ada);
const image = imageOf({ layers: [randomLayer(100_000, 'private')] });
const repository = 'team/app';

function pathsOf(name: string): string[] {
  const { manifests, blobs } = contentsOf(image);
  return [
    `${name}/manifests/v1`,
    ...manifests.map(({ digest }) => `${name}/manifests/${digest}`),
    ...blobs.map(({ digest }) => `${name}/blobs/${digest}`),
  ];
}

function ask(
  cistern: Cistern,
  path: string,
  authorization?: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<Response> {
  const { method = 'GET', headers = {} } = options;
  const all = authorization === undefined ? headers : { ...headers, authorization };
  // A clock that goes ahead ends connections that wait.
  return fetch(`${cistern.url}/v2/${path}`, { method, headers: { ...all, connection: 'close' } });
}

async function statuses(
  cistern: Cistern,
  paths: readonly string[],
  authorization?: string,
): Promise<number[]> {
  const came: number[] = [];
  for (const path of paths) {
    const answer = await ask(cistern, path, authorization);
    await answer.arrayBuffer();
    came.push(answer.status);
  }
  return came;
}

const every = (status: number, paths: readonly string[]): number[] => paths.map(() => status);

describe.skipIf(lacks('docker-registry', 'skopeo'))('an upstream that verifies callers', () => {
  let registry: DockerRegistry;
  beforeEach(async () => {
    registry = await startDockerRegistry({ htpasswd: users });
    const authorization = basicOf('mirror', users.mirror);
    await pushImage({ url: registry.url, repository, authorization }, 'v1', image);
  });
  afterEach(() => registry[Symbol.asyncDispose]());

  const own = { username: 'mirror', password: users.mirror };
  const mirror = (
    proxy: Settings = {},
    root?: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Cistern> =>
    startCistern({
      env,
      config: { proxy: { remoteurl: registry.url, verifycaller: true, ...own, ...proxy } },
      ...(root === undefined ? {} : { root }),
    });

  it('serves whoever may read there, and nobody else, also from the cache', async () => {
    await using cistern = await mirror();
    const paths = pathsOf(repository);
    expect(await statuses(cistern, paths)).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, basicOf('ada', 'wrong'))).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
    await untilIdle(cistern);
    expect(await statuses(cistern, paths)).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, basicOf('ada', 'wrong'))).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, basicOf('eve', users.ada))).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, 'Bearer stolen')).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
  });

  it('asks for a password in the form of the specification', async () => {
    await using cistern = await mirror();
    for (const path of ['', ...pathsOf(repository)]) {
      const answer = await ask(cistern, path);
      expect(answer.headers.get('www-authenticate')).toBe('Basic realm="docker.io"');
      await expectSpecError(answer, 401, 'UNAUTHORIZED');
    }
  });

  it('gives nothing to a stranger by HEAD, Range, If-None-Match, ns, a prefix or a list', async () => {
    await using cistern = await mirror({ host: 'private.example' });
    const paths = pathsOf(repository);
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
    await untilIdle(cistern);
    const tries: [string, Parameters<typeof ask>[3]][] = paths.flatMap((path) => {
      const digest = path.split('/').at(-1) ?? '';
      return [
        [path, { method: 'HEAD' }],
        [path, { headers: { range: 'bytes=0-9' } }],
        [path, { headers: { 'if-none-match': `"${digest}"` } }],
        [path, { headers: { 'if-none-match': '*' } }],
        [`${path}?ns=private.example`, {}],
        [`private.example/${path}`, {}],
        [path.replace(repository, encodeURIComponent(repository)), {}],
      ] satisfies [string, Parameters<typeof ask>[3]][];
    });
    tries.push([`${repository}/tags/list`, {}], [`${repository}/referrers/${image.manifest.digest}`, {}]);
    for (const [path, options] of tries) {
      const answer = await ask(cistern, path, undefined, options);
      expect({ path, options, status: answer.status }).toEqual({ path, options, status: 401 });
      expect(answer.headers.get('docker-content-digest')).toBeNull();
      await answer.arrayBuffer();
    }
    expect((await ask(cistern, '_catalog', ada)).status).toBe(403);
    expect((await ask(cistern, `${repository}/tags/list`, ada)).status).toBe(200);
  });

  it('that has revoked a caller is believed at once by a replica that starts', async () => {
    await using folder = await temporaryFolder();
    const paths = pathsOf(repository);
    {
      await using first = await mirror({}, folder.path);
      expect(await statuses(first, paths, ada)).toEqual(every(200, paths));
      await untilIdle(first);
      await registry.changeUsers({ mirror: users.mirror, bob: users.bob });
      expect(await statuses(first, paths, ada)).toEqual(every(200, paths));
    }
    await using second = await mirror({}, folder.path);
    expect(await statuses(second, paths, ada)).toEqual(every(401, paths));
    expect(await statuses(second, paths, basicOf('bob', users.bob))).toEqual(every(200, paths));
  });

  it.skipIf(lacks('faketime'))('that has revoked a caller is believed five minutes later', async () => {
    await using folder = await temporaryFolder();
    const clock = await movableClock(join(folder.path, 'clock'));
    await using cistern = await mirror({}, undefined, clock.env);
    const paths = pathsOf(repository);
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
    await untilIdle(cistern);
    await registry.changeUsers({ mirror: users.mirror, bob: users.bob });
    await clock.ahead(4 * 60);
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
    await clock.ahead(5 * 60 + 1);
    expect(await statuses(cistern, paths, ada)).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, basicOf('bob', users.bob))).toEqual(every(200, paths));
  });

  it('that cannot be asked lets nobody in who is not known', async () => {
    await using cistern = await mirror();
    const [path = ''] = pathsOf(repository);
    expect((await ask(cistern, path, ada)).status).toBe(200);
    await untilIdle(cistern);
    await registry.stop();
    expect((await ask(cistern, path, ada)).status).toBe(200);
    await expectSpecError(await ask(cistern, path, basicOf('bob', users.bob)), 503, 'UNAVAILABLE');
  });

  it('leaves other upstreams as they are', async () => {
    await using cistern = await mirror({
      verifycaller: false,
      upstreams: [{ host: 'private.example', url: registry.url, verifycaller: true, ...own }],
    });
    expect(await statuses(cistern, ['', ...pathsOf(repository)])).toEqual(
      every(200, ['', ...pathsOf(repository)]),
    );
    const paths = pathsOf(`private.example/${repository}`);
    expect(await statuses(cistern, paths)).toEqual(every(401, paths));
    expect(await statuses(cistern, paths, ada)).toEqual(every(200, paths));
  });

  it('writes no password of a caller anywhere', async () => {
    await using cistern = await mirror();
    const wrong = 'a-wr0ng-passw0rd';
    await statuses(cistern, pathsOf(repository), ada);
    await statuses(cistern, pathsOf(repository), basicOf('ada', wrong));
    const metrics = await (await fetch(`${cistern.debugUrl}/metrics`)).text();
    expect(metrics).toContain('kind="caller"');
    await expect.poll(() => cistern.log()).toContain('"http.response.status":401');
    for (const secret of [users.ada, wrong, ada.slice(6), basicOf('ada', wrong).slice(6)]) {
      expect(cistern.log()).not.toContain(secret);
      expect(metrics).not.toContain(secret);
    }
    // A caller's wrong password is no trouble with the mirror's own.
    expect(cistern.log()).not.toContain('refuses credentials of ours');
  });

  it('is pulled from by skopeo with the password of its user', async () => {
    await using cistern = await mirror();
    const reference = `${cistern.host}/${repository}:v1`;
    let manifest: Buffer | undefined;
    const output = await skopeoCopy(reference, ['--src-creds', `ada:${users.ada}`], async ({ folder }) => {
      manifest = await readFile(join(folder, 'manifest.json'));
    });
    expect(output).toMatchObject({ code: 0 });
    expect(manifest).toEqual(image.manifest.bytes);
    const stranger = await skopeoCopy(reference, ['--src-creds', 'ada:wrong']);
    expect(stranger.code).not.toBe(0);
  });
});
