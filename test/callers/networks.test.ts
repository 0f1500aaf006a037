import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicOf } from '../credentials/private-registry.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError } from '../parts/mirror.js';

const inside = '10.2.0.1';
const outside = '192.0.2.1';
const ann = basicOf('ann', 'right');

describe('an upstream that verifies callers, with a grant for a network', () => {
  let upstream: FakeUpstream;
  let cistern: Cistern;
  beforeAll(async () => {
    upstream = await FakeUpstream.start({ users: { mirror: 'own', ann: 'right' } });
    const image = imageOf({ layers: [randomLayer(10_000, 'networks')] });
    for (const name of ['library/app', 'team/app', 'locked/app']) upstream.addImage(name, 'v1', image);
    const own = { username: 'mirror', password: 'own', verifycaller: true };
    const open = { networks: ['10.2.0.0/16'], repositories: ['library/*'] };
    cistern = await startCistern({
      config: {
        http: { trustedproxies: ['127.0.0.1'] },
        proxy: {
          remoteurl: upstream.url,
          ...own,
          access: [open, { anonymous: true, repositories: ['library/*', 'team/*'] }],
          upstreams: [{ host: 'private.example', url: upstream.url, ...own }],
        },
      },
    });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });

  const ask = (path: string, from: string, authorization?: string): Promise<Response> =>
    fetch(`${cistern.url}/v2/${path}`, {
      headers: { 'x-forwarded-for': from, ...(authorization === undefined ? {} : { authorization }) },
    });
  const manifest = (name: string) => `${name}/manifests/v1`;

  it.each([undefined, ann, basicOf('ann', 'wrong'), 'Bearer nonsense'])(
    'lets whoever is there in to what is granted, without a question: %s',
    async (authorization) => {
      const answer = await ask(manifest('library/app'), inside, authorization);
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    },
  );

  it('asks nobody of that network, whatever is wanted', async () => {
    expect((await ask('', inside)).status).toBe(200);
    expect((await ask('?ns=private.example', inside)).status).toBe(200);
    for (const name of ['team/app', 'locked/app', 'private.example/library/app', 'private.example/team/app'])
      for (const authorization of [undefined, basicOf('ann', 'wrong'), 'Bearer nonsense']) {
        const answer = await ask(manifest(name), inside, authorization);
        expect(answer.headers.get('www-authenticate')).toBeNull();
        await expectSpecError(answer, 403, 'DENIED');
      }
  });

  it('verifies who has credentials all the same', async () => {
    for (const name of ['team/app', 'private.example/team/app'])
      expect((await ask(manifest(name), inside, ann)).status).toBe(200);
  });

  it('verifies everybody else', async () => {
    for (const name of ['library/app', 'team/app', 'private.example/team/app']) {
      for (const authorization of [undefined, basicOf('ann', 'wrong')]) {
        const answer = await ask(manifest(name), outside, authorization);
        expect(answer.headers.get('www-authenticate')).toMatch(
          /^Basic realm="(docker\.io|private\.example)"$/,
        );
        await expectSpecError(answer, 401, 'UNAUTHORIZED');
      }
      expect((await ask(manifest(name), outside, ann)).status).toBe(200);
    }
    expect((await ask('', outside)).status).toBe(401);
  });

  it('grants as it does without', async () => {
    for (const from of [inside, outside]) {
      const answer = await ask(manifest('locked/app'), from, ann);
      expect(answer.headers.get('www-authenticate')).toBeNull();
      await expectSpecError(answer, 403, 'DENIED');
    }
  });
});
