import { stat } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { runCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { filesUnder, metric, startMirror, type Mirror } from '../parts/mirror.js';
import { cisternInTerminal, ctrlC } from '../parts/terminal.js';

const layer = randomLayer(3_000_000, 'interrupted');
const image = imageOf({ layers: [layer] });

describe.skipIf(lacks('script'))('Ctrl-C', () => {
  let mirror: Mirror;
  let gate: PromiseWithResolvers<void>;

  beforeEach(async () => {
    mirror = await startMirror({
      config: { scheduler: { enabled: false } },
      proxy: { host: 'example.com' },
    });
    mirror.upstream.addImage('team/slow', 'v1', image);
    gate = Promise.withResolvers();
    const stall = { stallAt: 1_000_000, until: gate.promise };
    mirror.upstream.fault({ path: `/v2/team/slow/blobs/${layer.digest}` }, stall);
  });

  afterEach(() => {
    gate.resolve();
    return mirror[Symbol.asyncDispose]();
  });

  async function interruptPrewarm(): Promise<{ code: number; shown: string }> {
    const session = cisternInTerminal(['prewarm', 'team/slow:v1', '-c', mirror.cistern.configFile]);
    await mirror.upstream.until(() => mirror.upstream.bytesSent({ path: /blobs/ }) >= 1_000_000);
    await expect.poll(() => session.shown()).toContain('fetching team/slow:v1');
    session.type(ctrlC);
    const code = await session.ended;
    return { code, shown: session.shown() };
  }

  it('ends a command that works by itself, and leaves nothing half done', async () => {
    await mirror.cistern.stop();
    const { code, shown } = await interruptPrewarm();
    expect(code).toBe(130);
    expect(shown.slice(-4)).toBe('\r\u001B[K');
    expect(shown).not.toContain('level=error');
    await expect(stat(`${mirror.cistern.root}/${blobPath(layer.digest)}`)).rejects.toMatchObject({
      code: 'ENOENT',
    });
    expect(await filesUnder(`${mirror.cistern.root}/cistern/spool`)).toEqual([]);
  });

  it('ends what a running mirror does for a command, and the mirror goes on', async () => {
    const { code } = await interruptPrewarm();
    expect(code).toBe(130);
    // The job's lease is free again.
    mirror.upstream.addImage('team/other', 'v1', imageOf({ layers: [] }));
    await expect
      .poll(
        async () => (await runCistern(['prewarm', 'team/other:v1', '-c', mirror.cistern.configFile])).code,
      )
      .toBe(0);
    expect(await metric(mirror.cistern, 'cistern_job_running', { name: 'prewarm' })).toBe(0);
  });
});
