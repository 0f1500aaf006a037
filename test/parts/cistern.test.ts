import { describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { runCistern, startCistern } from './cistern.js';
import { temporaryFolder } from './folder.js';
import { imageOf, randomLayer } from './image.js';

describe('the launcher', () => {
  it('starts a mirror, ends it, and starts another on the same data', async () => {
    await using folder = await temporaryFolder();
    await using upstream = await FakeUpstream.start();
    const image = imageOf({ layers: [randomLayer(50_000, 'launcher')] });
    upstream.addImage('team/app', 'v1', image);
    const options = { root: folder.path, config: { proxy: { remoteurl: upstream.url } } };
    const path = `/v2/team/app/manifests/${image.manifest.digest}`;
    {
      await using first = await startCistern(options);
      expect((await fetch(first.url + path)).status).toBe(200);
      expect((await fetch(`${first.debugUrl}/metrics`)).status).toBe(200);
      expect(await first.stop()).toEqual({ code: 0, signal: null });
      expect(first.logRecords().some(({ msg }) => msg === 'listening')).toBe(true);
    }
    await upstream.down();
    await using second = await startCistern(options);
    expect((await fetch(second.url + path)).status).toBe(200);
    second.kill('SIGKILL');
    expect(await second.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('runs a command to its end', async () => {
    const { code, stderr } = await runCistern(['serve', '/nowhere/config.yml']);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('/nowhere/config.yml') as unknown,
    });
  });
});
