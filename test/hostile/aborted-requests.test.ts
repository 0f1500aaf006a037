import { expect, it } from 'vitest';
import { blobOf, metric, startMirror, type Mirror } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { dial } from './raw.js';
import { patience } from '../parts/patience.js';

const unknown = `sha256:${'0'.repeat(64)}`;
const paths = [
  `app/blobs/${unknown}`,
  `app/manifests/${unknown}`,
  'app/manifests/unknown',
  'app/tags/list',
  `app/referrers/${unknown}`,
];

/** Sends a request, waits until `when` settles, and closes the connection by FIN or RST. */
async function leave(
  mirror: Mirror,
  method: string,
  path: string,
  end: 'FIN' | 'RST',
  when: () => Promise<unknown>,
): Promise<void> {
  using connection = await dial(mirror.cistern.url);
  connection.socket.write(`${method} /v2/${path} HTTP/1.1\r\nHost: mirror.test\r\n\r\n`);
  await when();
  if (end === 'FIN') connection.socket.end();
  else connection.socket.resetAndDestroy();
  connection.socket.destroy();
  await connection.ended;
}

/** The mirror's health and errors, once it has no request and no transfer in progress. */
async function afterwards({ cistern }: Mirror): Promise<{ health: number; unhandledErrors: number }> {
  const signal = patience();
  for (const name of ['registry_http_in_flight_requests', 'cistern_transfers_running']) {
    await until(async () => (await metric(cistern, name)) === 0, signal);
  }
  const { status } = await fetch(`${cistern.url}/healthz`);
  return { health: status, unhandledErrors: await metric(cistern, 'cistern_unhandled_errors_total') };
}

const well = { health: 200, unhandledErrors: 0 };

it.each([404, 401, 403, 429, 500] as const)(
  'keeps serving after clients abort requests that the upstream answers with %i later',
  async (status) => {
    await using mirror = await startMirror();
    const { upstream } = mirror;
    for (const method of ['HEAD', 'GET']) {
      for (const path of paths) {
        for (const end of ['FIN', 'RST'] as const) {
          const answered = Promise.withResolvers<void>();
          upstream.clearFaults();
          upstream.fault(
            {},
            {
              headersAfter: answered.promise,
              answer: { status, body: 'no', headers: { 'content-type': 'text/plain' } },
            },
          );
          const before = upstream.requests.length;
          const asked = (): Promise<void> =>
            Promise.race([
              upstream.until(() => upstream.requests.length > before),
              // An answer that the mirror remembers needs no request.
              fetchSettled(mirror, path),
            ]);
          await leave(mirror, method, path, end, asked);
          answered.resolve();
        }
      }
    }
    expect(await afterwards(mirror)).toEqual(well);
  },
);

it('keeps serving after clients abort requests at once, before the mirror has read them', async () => {
  await using mirror = await startMirror();
  for (let round = 0; round < 20; round += 1) {
    for (const method of ['HEAD', 'GET']) {
      for (const path of paths) {
        await leave(mirror, method, path, round % 2 === 0 ? 'FIN' : 'RST', () => Promise.resolve());
      }
    }
  }
  expect(await afterwards(mirror)).toEqual(well);
});

it('keeps serving after clients abort a body, even if the transfer breaks or is corrupt', async () => {
  await using mirror = await startMirror();
  const { upstream } = mirror;
  for (const [n, end] of (['FIN', 'RST', 'FIN', 'RST'] as const).entries()) {
    const blob = blobOf(1024 * 1024, `aborted ${n}`);
    upstream.addBlob('app', blob);
    const path = `/v2/app/blobs/${blob.digest}`;
    upstream.clearFaults();
    upstream.fault({ path }, n < 2 ? { cutAt: 300_000 } : { corruptAt: 300_000 });
    await leave(mirror, 'GET', `app/blobs/${blob.digest}`, end, () =>
      upstream.until(() => upstream.bytesSent({ path }) > 100_000),
    );
  }
  expect(await afterwards(mirror)).toEqual(well);
});

it('logs and counts clients that leave before the end of their answer with status 499', async () => {
  await using mirror = await startMirror();
  const { upstream, cistern } = mirror;
  const blob = blobOf(64 * 1024 * 1024, 'left');
  const cold = blobOf(1024 * 1024, 'cold');
  upstream.addBlob('app', blob);
  upstream.addBlob('app', cold);
  const whole = await fetch(mirror.url(`app/blobs/${blob.digest}`));
  await whole.arrayBuffer();
  upstream.fault({ path: `/v2/app/blobs/${unknown}` }, { hang: true });
  upstream.fault({ path: `/v2/app/blobs/${cold.digest}` }, { stallAt: 500_000 });
  const inFlight = () => metric(cistern, 'registry_http_in_flight_requests', { handler: 'blob' });
  let left = 0;
  for (const end of ['FIN', 'RST'] as const) {
    for (const [method, path] of [
      ['HEAD', `app/blobs/${unknown}`], // before the head
      ['GET', `app/blobs/${unknown}`],
      ['GET', `app/blobs/${cold.digest}`], // while the mirror waits for the upstream
      ['GET', `app/blobs/${blob.digest}`], // while the mirror waits for the client
    ] as const) {
      await leave(mirror, method, path, end, () => until(async () => (await inFlight()) > 0, patience()));
      await until(async () => (await inFlight()) === 0, patience());
      left += 1;
    }
  }
  const count = (code: string) => metric(cistern, 'registry_http_requests_total', { handler: 'blob', code });
  expect([await count('499'), await count('200')]).toEqual([left, 1]);
  const lines = () => cistern.logRecords().filter(({ msg }) => msg === 'client left');
  await expect.poll(lines).toHaveLength(left);
  expect(new Set(lines().map((line) => line['http.response.status']))).toEqual(new Set([499]));
});

/** Settles when the mirror answers this path from memory; it never does while it waits for its upstream. */
async function fetchSettled(mirror: Mirror, path: string): Promise<void> {
  await fetch(mirror.url(path), { method: 'HEAD' });
}
