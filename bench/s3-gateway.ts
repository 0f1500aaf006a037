import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { blobPath } from '../src/storage/layout.js';
import { FakeUpstream } from '../test/fakes/fake-upstream.js';
import { cephParts, type CephRgw, startCephRgw } from '../test/parts/ceph-rgw.js';
import type { Settings } from '../test/parts/cistern.js';
import { temporaryFolder } from '../test/parts/folder.js';
import { type Content, imageOf, randomLayer } from '../test/parts/image.js';
import { blobOf, metric } from '../test/parts/mirror.js';
import { quickAndPublish, requireParts, runBenchmark, say } from './command.js';
import { download } from './download.js';
import { blobUrl, manifestUrl, repository } from './lab.js';
import { type Load, loadGet } from './load.js';
import { describeMachine, machineText, measuredNow } from './machine.js';
import { fullPlan, type Plan, quickPlan, sizeText } from './plan.js';
import { publish } from './publish.js';
import { type Server, startServer } from './server.js';
import { summarize, type Summary } from './statistics.js';

/** Of what the same client reads from the gateway itself. */
const leastRatio = 0.9;
/** Redirects to the gateway, in each second. */
const leastRedirects = 10_000;

interface Row {
  readonly title: string;
  readonly unit: 'MB/s' | 'requests/s';
  /** The gateway itself; `undefined` where that has nothing like it. */
  readonly direct: Summary | undefined;
  readonly cistern: Summary;
  /** Of the ratio of the medians, or of Cistern's median where there is no ratio; `undefined`: shown alone. */
  readonly least: number | undefined;
}

/** A gateway with content, mirrors that stream it, with local copies and without, and one that sends clients there. */
interface Gateway {
  readonly streaming: Server;
  readonly uncopied: Server;
  readonly redirecting: Server;
  readonly large: Content;
  readonly small: Content;
  readonly manifest: Content;
  /** Where anybody may read an object. */
  directUrl(content: Content): Promise<string>;
}

/** Cistern over a Ceph gateway, and the gateway itself, read by the same client by turns. Returns the exit code. */
export function measureS3(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = quickAndPublish(args, 'bench:s3');
    const plan = options.quick ? quickPlan : fullPlan;
    requireParts(...cephParts, 'docker-registry', 'wrk');
    const machine = await describeMachine();
    await using cleanup = new AsyncDisposableStack();
    const gateway = await startGateway(cleanup, plan, signal);
    const rows = await measureAll(gateway, plan, signal);
    const what = `Medians of ${plan.rounds} turns each, by turns (lowest–highest)`;
    const block = `${tableOf(rows)}\n\n${measuredNow(what, machineText(machine))}`;
    process.stdout.write(`${block}\n`);
    if (options.publish) say(`the table is in ${(await publish(block, 'bench-s3')).join(' and ')}`);
    const holds = rows.every((row) => row.least === undefined || reached(row) >= row.least);
    process.stdout.write(holds ? '\nholds\n' : '\nDOES NOT HOLD\n');
    return holds ? 0 : 1;
  });
}

async function startGateway(
  cleanup: AsyncDisposableStack,
  plan: Plan,
  signal: AbortSignal,
): Promise<Gateway> {
  say('starting a Ceph gateway');
  const folder = cleanup.use(await temporaryFolder());
  const upstream = cleanup.use(await FakeUpstream.start());
  const rgw = cleanup.use(await startCephRgw());
  const bucket = await rgw.newBucket();
  const image = imageOf({ layers: [randomLayer(10_000, 's3')] });
  const large = blobOf(plan.largeBlob, 'large');
  const small = blobOf(plan.smallBlob, 'small');
  upstream.addImage(repository, 'v1', image);
  for (const blob of [large, small]) upstream.addBlob(repository, blob);
  const start = async (
    name: string,
    storage: { redirect: { disable: boolean }; s3?: Settings },
  ): Promise<Server> => {
    const options = {
      folder: join(folder.path, name),
      storage: { ...storage, s3: rgw.settings(bucket, storage.s3) },
      proxy: { remoteurl: upstream.url, spool: { directory: join(folder.path, name, 'spool') } },
      requestsLogged: true,
    };
    return cleanup.use(await startServer('cistern', options, signal));
  };
  const streaming = await start('streaming', { redirect: { disable: true } });
  for (const blob of [large, small]) await download(blobUrl(streaming, blob), blob.size, signal);
  const { manifest } = image;
  const headers = { accept: manifest.mediaType };
  await download(manifestUrl(streaming, manifest.digest), manifest.size, signal, headers);
  await untilStored(streaming, signal);
  const uncopied = await start('uncopied', { redirect: { disable: true }, s3: { localcopies: 0 } });
  const redirecting = await start('redirecting', { redirect: { disable: false } });
  const directUrl = (content: Content): Promise<string> => signedUrl(rgw, bucket, content);
  return { streaming, uncopied, redirecting, large, small, manifest, directUrl };
}

/** What was pulled is in the bucket once no transfer runs. */
async function untilStored({ debugPort }: Server, signal: AbortSignal): Promise<void> {
  const debugUrl = `http://127.0.0.1:${debugPort}`;
  while ((await metric({ debugUrl }, 'cistern_transfers_running')) > 0) {
    await delay(100, undefined, { signal });
  }
}

function signedUrl({ client }: CephRgw, bucket: string, { digest }: Content): Promise<string> {
  const object = new GetObjectCommand({ Bucket: bucket, Key: blobPath(digest) });
  return getSignedUrl(client, object, { expiresIn: 3600 });
}

async function measureAll(gateway: Gateway, plan: Plan, signal: AbortSignal): Promise<Row[]> {
  const { streaming, uncopied, redirecting, large, small, manifest } = gateway;
  const { connections } = plan;
  const rows: Row[] = [];
  const compare = async (
    what: string,
    content: Content,
    cistern: string,
    unit: Row['unit'],
    at: number,
    least: Row['least'],
  ): Promise<void> => {
    const urls = [await gateway.directUrl(content), cistern] as const;
    const title = `GET ${what}, ${at === 1 ? '1 connection' : `${at} connections`}`;
    const [direct, ours] = await byTurns(urls, unit, at, plan, signal);
    rows.push({ title, unit, direct, cistern: ours, least });
    say(`${title}: ${cell(direct, unit)} and ${cell(ours, unit)}`);
  };
  for (const at of [1, 4]) {
    const blob = `${sizeText(large.size)} blob`;
    await compare(blob, large, blobUrl(streaming, large), 'MB/s', at, leastRatio);
    await compare(`${blob} without local copies`, large, blobUrl(uncopied, large), 'MB/s', at, undefined);
  }
  await compare(
    `${sizeText(small.size)} blob`,
    small,
    blobUrl(streaming, small),
    'requests/s',
    connections,
    leastRatio,
  );
  const byDigest = manifestUrl(streaming, manifest.digest);
  await compare('manifest by digest', manifest, byDigest, 'requests/s', connections, leastRatio);
  const redirects = blobUrl(redirecting, large);
  const [cistern] = await byTurns([redirects, redirects], 'requests/s', connections, plan, signal);
  const title = `redirects to a blob, ${connections} connections`;
  rows.push({ title, unit: 'requests/s', direct: undefined, cistern, least: leastRedirects });
  return rows;
}

/** Each of the two addresses in its turn, after a first load that is not counted. */
async function byTurns(
  urls: readonly [string, string],
  unit: Row['unit'],
  connections: number,
  plan: Plan,
  signal: AbortSignal,
): Promise<[Summary, Summary]> {
  const { rounds, seconds, warmUpSeconds } = plan;
  const valueOf = (load: Load): number =>
    unit === 'MB/s' ? (load.bytesPerSecond ?? 0) / 1_000_000 : load.requestsPerSecond;
  for (const url of urls) await loadGet(url, { seconds: warmUpSeconds, connections }, signal);
  const results: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    for (const side of [0, 1] as const) {
      results[side].push(valueOf(await loadGet(urls[side], { seconds, connections }, signal)));
    }
  }
  return [summarize(results[0]), summarize(results[1])];
}

/** What is measured against `least`. */
function reached({ direct, cistern }: Row): number {
  return direct === undefined ? cistern.median : cistern.median / direct.median;
}

/** In Markdown. */
function tableOf(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const direct = row.direct === undefined ? '–' : cell(row.direct, row.unit);
    const ratio = row.direct === undefined ? '–' : reached(row).toFixed(2);
    const limit = row.direct === undefined ? `${quantity(row.least ?? 0)}/s` : row.least?.toFixed(2);
    return `| ${row.title} | ${direct} | ${cell(row.cistern, row.unit)} | ${ratio} | ${limit ?? '–'} |`;
  });
  return ['| | Ceph RGW itself | Cistern | ratio | at least |', '|---|---:|---:|---:|---:|', ...lines].join(
    '\n',
  );
}

function cell({ median, min, max }: Summary, unit: string): string {
  return `${quantity(median)} ${unit} (${quantity(min)}–${quantity(max)})`;
}

function quantity(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}
