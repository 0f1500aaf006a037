import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../parts/folder.js';
import { metric } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { freePort } from '../parts/ports.js';
import { startProcess, until, untilReady } from '../parts/process.js';

const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

it('keeps serving, and ends in order, while the disk of its log is full', async () => {
  await using folder = await temporaryFolder();
  const [port, debugPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const debugUrl = `http://127.0.0.1:${debugPort}`;
  const config = `version: 0.1
log: {level: debug}
storage: {filesystem: {rootdirectory: ${folder.path}/root}}
http:
  addr: 127.0.0.1:${port}
  draindelay: 0s
  debug: {addr: "127.0.0.1:${debugPort}", prometheus: {enabled: true}}
`;
  const configFile = join(folder.path, 'config.yml');
  await writeFile(configFile, config);
  const command = ['-c', 'exec "$@" > /dev/full', 'sh', process.execPath, main, 'serve', configFile];
  await using running = await startProcess('sh', command);
  const isAlive = (): Promise<boolean> =>
    fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await untilReady(running, 'cistern', (signal) => until(isAlive, signal));
  // Each request is a line, and a write that fails.
  for (let batch = 0; batch < 5; batch += 1) {
    await Promise.all(Array.from({ length: 50 }, () => fetch(`${url}/v2/`)));
  }
  const served = (): Promise<number> => metric({ debugUrl }, 'registry_http_requests_total');
  await until(async () => (await served()) >= 250, patience());
  expect(await metric({ debugUrl }, 'cistern_unhandled_errors_total')).toBe(0);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
