import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { temporaryFolder } from '../parts/folder.js';
import { blobOf, sha256 } from '../parts/mirror.js';

const size = 40_000_000;

it('removes the spools of a replica that was killed on another host, and does not harm a stopped one', async () => {
  await using upstream = await FakeUpstream.start({ bytesPerSecond: 4_000_000 });
  await using folder = await temporaryFolder();
  const root = join(folder.path, 'root');
  const start = (): Promise<Cistern> =>
    startCistern({ root, config: { proxy: { remoteurl: upstream.url } } });
  const spools = join(root, 'cistern', 'spool');
  const spoolsOf = async ({ pid }: Cistern): Promise<string> => {
    const name = (await readdir(spools)).find((each) => each.startsWith(`${pid}-`));
    return join(spools, name ?? 'none');
  };
  const blobs = ['killed', 'stopped'].map((seed) => blobOf(size, seed));
  for (const blob of blobs) upstream.addBlob('team/app', blob);
  const [first, second] = blobs.map(({ digest }) => `/v2/team/app/blobs/${digest}`);
  const begun = (path = ''): Promise<void> => upstream.until(() => upstream.bytesSent({ path }) > 1_000_000);

  await using killed = await start();
  using gone = new SlowClient(`${killed.url}${first}`);
  await begun(first);
  const left = await spoolsOf(killed);
  killed.kill('SIGKILL');
  await Promise.all([killed.exited, gone.finished]);
  // To other replicas this looks like a container on another host.
  const owner = join(left, 'owner.json');
  const told = JSON.parse(await readFile(owner, 'utf8')) as Record<string, unknown>;
  await writeFile(owner, JSON.stringify({ ...told, namespace: 'pid:[1]' }));

  await using stopped = await start();
  const pulled = receive(`${stopped.url}${second}`);
  await begun(second);
  const held = await spoolsOf(stopped);
  stopped.kill('SIGSTOP');
  await using _other = await start();
  expect(existsSync(left)).toBe(true);
  await expect.poll(() => existsSync(left), { interval: 500 }).toBe(false);
  await expect.poll(() => existsSync(held), { interval: 500 }).toBe(false);
  stopped.kill('SIGCONT');
  const hash = sha256(blobs[1]?.bytes ?? Buffer.alloc(0));
  expect(await pulled).toMatchObject({ end: 'complete', sha256: hash });
  expect(await receive(`${stopped.url}${second}`)).toMatchObject({ end: 'complete', sha256: hash });
});
