// Pulls images in the container of a stack without end, one line for each pull. It does as clients behind a load
// balancer do: any replica that is there, another try where one is lost, the rest by Range where a body is cut.
//
//   node pull.mjs SERVICE REPOSITORY TAG...
import { createHash } from 'node:crypto';
import { resolve4 } from 'node:dns/promises';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const [service, repository, ...tags] = process.argv.slice(2);
const accept = 'application/vnd.oci.image.manifest.v1+json';
const tries = 6;
const idleMs = 10_000;
const workers = 4;

await Promise.all(Array.from({ length: workers }, () => pullForEver()));

async function pullForEver() {
  for (;;) {
    const tag = tags[Math.floor(Math.random() * tags.length)];
    const lost = [];
    try {
      await pull(tag, lost);
      process.stdout.write(`${JSON.stringify({ pulled: tag, lost })}\n`);
    } catch (error) {
      process.stdout.write(`${JSON.stringify({ failed: tag, reason: error.message, lost })}\n`);
    }
    await sleep(50);
  }
}

async function pull(tag, lost) {
  const manifest = JSON.parse(await get(`manifests/${tag}`, undefined, lost));
  for (const { digest } of [manifest.config, ...manifest.layers]) await get(`blobs/${digest}`, digest, lost);
}

async function get(path, digest, lost) {
  const parts = [];
  for (let turn = 1; ; turn += 1) {
    try {
      await read(path, parts);
      const bytes = Buffer.concat(parts);
      const sum = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
      if (digest !== undefined && sum !== digest) throw new Error(`${path}: its sum is ${sum}`);
      return bytes;
    } catch (error) {
      if (turn === tries) throw error;
      lost.push(`${path}: ${error.message}`);
      await sleep(300 * turn);
    }
  }
}

async function read(path, parts) {
  const addresses = await resolve4(service);
  const host = addresses[Math.floor(Math.random() * addresses.length)];
  const have = parts.reduce((sum, part) => sum + part.length, 0);
  const headers = { accept, ...(have === 0 ? {} : { range: `bytes=${have}-` }) };
  const { promise, resolve, reject } = Promise.withResolvers();
  const sent = request({ host, port: 5000, path: `/v2/${repository}/${path}`, headers, agent: false });
  sent.setTimeout(idleMs, () => sent.destroy(new Error('nothing came')));
  sent.once('error', reject).once('response', resolve).end();
  const response = await promise;
  if (response.statusCode !== (have === 0 ? 200 : 206)) {
    response.resume();
    throw new Error(`${host} answered ${response.statusCode}`);
  }
  for await (const part of response) parts.push(part);
}
