import { expect, it } from 'vitest';
import { runCistern } from '../parts/cistern.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { startMirror } from '../parts/mirror.js';
import { startProcess } from '../parts/process.js';

it('a command ends with 4 while the same work is under way, and with 2 when it is misused', async () => {
  await using mirror = await startMirror({
    config: { scheduler: { enabled: false } },
    proxy: { host: 'example.com' },
  });
  const layer = randomLayer(3_000_000, 'busy');
  mirror.upstream.addImage('team/slow', 'v1', imageOf({ layers: [layer] }));
  const gate = Promise.withResolvers<void>();
  const stall = { stallAt: 1_000_000, until: gate.promise };
  mirror.upstream.fault({ path: `/v2/team/slow/blobs/${layer.digest}` }, stall);
  const asked = ['prewarm', 'team/slow:v1', '-c', mirror.cistern.configFile];
  await using _first = await startProcess('node_modules/.bin/node', ['dist/main.js', ...asked]);
  await mirror.upstream.until(() => mirror.upstream.bytesSent({ path: /blobs/ }) >= 1_000_000);

  const second = await runCistern(asked);
  expect(second).toMatchObject({ code: 4, stdout: '' });
  expect(second.stderr).toContain('prewarm is being done already');

  for (const misuse of [
    ['nonsense'],
    ['prewarm'],
    ['gc', '-c', '/nowhere/config.yml'],
    ['verify', 'Nonsense', ...asked.slice(-2)],
  ]) {
    const { code, stdout, stderr } = await runCistern(misuse);
    expect({ misuse, code, stdout }).toEqual({ misuse, code: 2, stdout: '' });
    expect(stderr).not.toBe('');
  }
  gate.resolve();
});
