import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { FakeUpstream } from '../test/fakes/fake-upstream.js';
import { LinkProxy } from '../test/fakes/link-proxy.js';
import { receive } from '../test/fakes/slow-client.js';
import { type Cistern, startCistern } from '../test/parts/cistern.js';
import { temporaryFolder } from '../test/parts/folder.js';
import { blobOf, soundStore } from '../test/parts/mirror.js';
import { freePort } from '../test/parts/ports.js';
import { type RedisServer, startRedis } from '../test/parts/redis.js';
import { requireParts, runBenchmark } from './command.js';
import { describeMachine, machineText } from './machine.js';
import { memoryOf } from './process-memory.js';
import { pick, randomOf } from './random.js';
import { asInProduction } from './replica-settings.js';
import { type Point, slopeOf } from './slope.js';

const replicaCount = 3;
const clientCount = 16;
const linkBytesPerSecond = 20_000_000;
const largest = 6_000_000;
const newBlobShare = 0.3;
const disturbEveryMs = [1_500, 6_000] as const;
/** Is never killed, so that its memory can be followed from the start to the end. */
const followed = 0;
const sampleMs = 1_000;
/** Of the time: until caches hold what they will. */
const settling = 1 / 3;
/** In MiB per minute, of what the line through all samples after that says. */
const allowedSlope = 1;
const mebibyte = 1024 * 1024;

/** What clients got, in all. The last three must be zero. */
interface Tally {
  complete: number;
  bytes: number;
  /** Cut, reset or refused because the replica was dead or dying: clients then try again. */
  cut: number;
  refused: number;
  errors: Record<string, number>;
  wrong: number;
  shortButClean: number;
  unsound: number;
}

interface Known {
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
}

/** Replicas on one folder, an upstream, Redis, and links between them, all of which break at random. */
class Field {
  readonly log: string[] = [];
  readonly tally: Tally = {
    complete: 0,
    bytes: 0,
    cut: 0,
    refused: 0,
    errors: {},
    wrong: 0,
    shortButClean: 0,
    unsound: 0,
  };
  readonly replicas: (Cistern | undefined)[] = [];
  /** Minutes, and MiB that were resident. */
  readonly memory: Point[] = [];
  readonly #blobs: Known[] = [];
  readonly #started = performance.now();
  #made = 0;

  constructor(
    readonly root: string,
    readonly upstream: FakeUpstream,
    readonly redis: RedisServer,
    readonly links: readonly LinkProxy[],
    readonly ports: readonly { readonly http: number; readonly cluster: number }[],
    readonly random: () => number,
  ) {}

  note(text: string): void {
    const line = `${((performance.now() - this.#started) / 1000).toFixed(1).padStart(6)} s  ${text}`;
    this.log.push(line);
    process.stderr.write(`${line}\n`);
  }

  async startReplica(index: number): Promise<void> {
    const { http, cluster } = this.ports[index] as { http: number; cluster: number };
    this.replicas[index] = await startCistern({
      root: this.root,
      port: http,
      env: asInProduction.env(),
      config: {
        log: { level: 'info', accesslog: { disabled: true } },
        storage: { cache: { blobdescriptor: 'redis' } },
        redis: { addr: this.redis.addr },
        cluster: { addr: `127.0.0.1:${cluster}`, advertise: (this.links[index] as LinkProxy).url },
        proxy: { remoteurl: this.upstream.url, freshness: '2s' },
      },
    });
  }

  /** One client until the end: a blob from any replica, old or new, checked to the last byte. */
  async client(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      const blob =
        this.#blobs.length === 0 || this.random() < newBlobShare
          ? this.#newBlob()
          : pick(this.random, this.#blobs);
      const index = Math.floor(this.random() * replicaCount);
      try {
        this.#judge(await receive(`http://127.0.0.1:${this.ports[index]?.http}${blob.path}`), blob);
      } catch {
        this.tally.refused += 1;
        await sleep(200);
      }
    }
  }

  #newBlob(): Known {
    this.#made += 1;
    const size = 1 + Math.floor(largest * this.random() ** 3);
    const blob = blobOf(size, `soak ${this.#made} ${this.random()}`);
    const repository = `soak/r${this.#made % 50}`;
    this.upstream.addBlob(repository, blob);
    const known = { path: `/v2/${repository}/blobs/${blob.digest}`, sha256: blob.digest.slice(7), size };
    this.#blobs.push(known);
    return known;
  }

  #judge(got: Awaited<ReturnType<typeof receive>>, blob: Known): void {
    const { tally } = this;
    if (got.end !== 'complete') tally.cut += 1;
    else if (got.status !== 200) tally.errors[got.status] = (tally.errors[got.status] ?? 0) + 1;
    else if (got.bytes < blob.size) {
      tally.shortButClean += 1;
      this.note(`SHORT BUT CLEAN: ${got.bytes} of ${blob.size} bytes of ${blob.path}`);
    } else if (got.sha256 !== blob.sha256 && got.sha256 !== `sha256:${blob.sha256}`) {
      tally.wrong += 1;
      this.note(`WRONG BYTES: ${blob.path}`);
    } else {
      tally.complete += 1;
      tally.bytes += got.bytes;
    }
  }

  async followMemory(until: AbortSignal): Promise<void> {
    const pid = Number(this.replicas[followed]?.pid);
    while (!until.aborted) {
      const { resident } = await memoryOf(pid);
      this.memory.push([(performance.now() - this.#started) / 60_000, resident / mebibyte]);
      await sleep(sampleMs, undefined, { signal: until }).catch(() => undefined);
    }
  }

  /** Something breaks, and is mended after a while. */
  async disturb(): Promise<void> {
    const index = Math.floor(this.random() * replicaCount);
    const pause = 500 + this.random() * 4_000;
    switch (pick(this.random, ['kill', 'kill', 'stop', 'redis', 'flush', 'link', 'stall', 'upstream'])) {
      case 'kill': {
        const victim = index === followed ? index + 1 : index;
        this.note(`replica ${victim} killed`);
        this.replicas[victim]?.kill('SIGKILL');
        await this.replicas[victim]?.exited;
        await sleep(pause);
        await this.startReplica(victim);
        break;
      }
      case 'stop': {
        this.note(`replica ${index} stopped for ${(pause / 1000 + 3).toFixed(1)} s`);
        this.replicas[index]?.kill('SIGSTOP');
        await sleep(pause + 3_000);
        this.replicas[index]?.kill('SIGCONT');
        break;
      }
      case 'redis': {
        this.note(`redis killed for ${(pause / 1000).toFixed(1)} s`);
        await this.redis.kill();
        await sleep(pause);
        await this.redis.start();
        break;
      }
      case 'flush': {
        this.note('FLUSHALL');
        await this.redis.client().flushall();
        break;
      }
      case 'link': {
        this.note(`link to replica ${index} down for ${(pause / 1000).toFixed(1)} s`);
        await this.links[index]?.down();
        await sleep(pause);
        await this.links[index]?.up();
        break;
      }
      case 'stall': {
        this.note(`link to replica ${index} stalls for ${(pause / 1000).toFixed(1)} s`);
        this.links[index]?.inject({ stallAt: Math.floor(this.random() * 500_000) });
        await sleep(pause);
        this.links[index]?.heal();
        break;
      }
      default: {
        this.note('upstream cuts its next answers');
        const cutAt = Math.floor(this.random() * 400_000);
        this.upstream.fault(
          { path: /\/blobs\//, times: 3 },
          { cutAt, cut: pick(this.random, ['close', 'reset']) },
        );
      }
    }
  }
}

/**
 * Returns the exit code: 0 when no client got a wrong byte or a clean end of a short body, the store is sound, and
 * memory does not grow.
 */
export function soak(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: '1' },
      log: { type: 'string' },
    },
  });
  return runBenchmark(async (signal) => {
    requireParts('redis-server');
    await using cleanup = new AsyncDisposableStack();
    const field = await makeField(cleanup, Number(values.seed));
    const minutes = Number(values.minutes);
    const until = AbortSignal.any([signal, AbortSignal.timeout(Math.round(minutes * 60_000))]);
    const clients = Array.from({ length: clientCount }, () => field.client(until));
    const following = field.followMemory(until);
    following.catch(() => undefined); // told below, unless something else went wrong before
    while (!until.aborted) {
      const [least, most] = disturbEveryMs;
      await sleep(least + field.random() * (most - least), undefined, { signal: until }).catch(
        () => undefined,
      );
      if (!until.aborted) await field.disturb();
    }
    await Promise.all([...clients, following]);
    const slope = slopeOf(field.memory.slice(Math.floor(field.memory.length * settling)));
    const text = await conclude(field, minutes, String(values.seed), slope);
    process.stdout.write(text);
    if (values.log !== undefined) await writeFile(values.log, text);
    const { wrong, shortButClean, unsound } = field.tally;
    return wrong + shortButClean + unsound === 0 && slope < allowedSlope ? 0 : 1;
  });
}

async function makeField(cleanup: AsyncDisposableStack, seed: number): Promise<Field> {
  const folder = cleanup.use(await temporaryFolder());
  const upstream = cleanup.use(await FakeUpstream.start({ bytesPerSecond: linkBytesPerSecond }));
  const redis = cleanup.use(await startRedis());
  const ports = await Promise.all(
    Array.from({ length: replicaCount }, async () => ({ http: await freePort(), cluster: await freePort() })),
  );
  const links: LinkProxy[] = [];
  for (const { cluster } of ports) {
    links.push(cleanup.use(await LinkProxy.start({ target: `http://127.0.0.1:${cluster}` })));
  }
  const field = new Field(join(folder.path, 'root'), upstream, redis, links, ports, randomOf(seed));
  cleanup.defer(async () => {
    for (const replica of field.replicas) await replica?.[Symbol.asyncDispose]();
  });
  for (let index = 0; index < replicaCount; index += 1) await field.startReplica(index);
  return field;
}

async function conclude(field: Field, minutes: number, seed: string, slope: number): Promise<string> {
  const { tally, memory } = field;
  const sizes = memory.map(([, mebibytes]) => mebibytes);
  for (const replica of field.replicas) {
    replica?.kill('SIGINT');
    await replica?.exited;
  }
  try {
    const { blobs } = await soundStore(field.root);
    field.note(`the store holds ${blobs.length} blobs, each of which hashes to its name`);
  } catch (error) {
    tally.unsound += 1;
    field.note(`THE STORE IS UNSOUND: ${String(error)}`);
  }
  const errors = Object.entries(tally.errors).map(([status, count]) => `${count} × ${status}`);
  return [
    `${minutes} minutes, seed ${seed}: ${replicaCount} replicas on one folder, ${clientCount} clients; ${machineText(await describeMachine())}`,
    `complete and right: ${tally.complete} (${(tally.bytes / 2 ** 30).toFixed(1)} GiB)`,
    `cut before the end: ${tally.cut}; no connection: ${tally.refused}; error answers: ${errors.join(', ') || 'none'}`,
    `wrong bytes: ${tally.wrong}; clean ends of a short body: ${tally.shortButClean}; faults in the store: ${tally.unsound}`,
    `resident memory of replica ${followed}: ${sizes.at(0)?.toFixed(0)} MiB at first, ${sizes.at(-1)?.toFixed(0)} at last, ${Math.max(...sizes).toFixed(0)} at most; after the first third ${slope.toFixed(2)} MiB per minute (allowed: less than ${allowedSlope}): ${slope < allowedSlope ? 'flat' : 'IT GROWS'}`,
    '',
    ...field.log,
    '',
  ].join('\n');
}
