import { setTimeout as delay } from 'node:timers/promises';
import { SlowClient } from '../test/fakes/slow-client.js';
import type { Content } from '../test/parts/image.js';
import { say } from './command.js';
import { blobUrl, type Lab } from './lab.js';
import { sizeText } from './plan.js';
import { memoryOf } from './process-memory.js';

const mebibyte = 1024 * 1024;
const warmBlobs = 5;
const allowedPeak = 200 * mebibyte;

/** Clients, and what each reads. Sizes in bytes. */
export interface Streams {
  readonly warm: number;
  readonly cold: number;
  readonly warmBlob: number;
  readonly coldBlob: number;
  readonly bytesPerSecond: number;
}

export interface StreamsResult {
  /** Resident memory in bytes: after the start, and the most until all had ended. */
  readonly start: number;
  readonly peak: number;
  /** Cold blobs that came whole, and warm streams that went on as long as those took. */
  readonly whole: number;
  readonly flowing: number;
  readonly seconds: number;
}

/** Slow readers of cached blobs, and of as many blobs as there are others that are cold: all at the same time. */
export async function readManyStreams(
  lab: Lab,
  streams: Streams,
  signal: AbortSignal,
): Promise<StreamsResult> {
  const { bytesPerSecond } = streams;
  const cold = await push(lab, streams.cold, streams.coldBlob, 'cold');
  const cached = await push(lab, warmBlobs, streams.warmBlob, 'warm');
  await using mirror = await lab.startMirror('cistern', lab.upstream.url);
  const { resident: start } = await memoryOf(mirror.pid);
  for (const blob of cached) await lab.pullBlob(mirror, blob);
  say(`${streams.warm} warm and ${streams.cold} cold streams at up to ${sizeText(bytesPerSecond)}/s each`);
  const began = performance.now();
  using clients = new DisposableStack();
  const open = (blob: Content): SlowClient =>
    clients.use(new SlowClient(blobUrl(mirror, blob), { bytesPerSecond }));
  const warm = Array.from({ length: streams.warm }, (_, n) => open(cached[n % warmBlobs] as Content));
  await Promise.all(warm.map(({ answered }) => answered));
  const pulls = cold.map((blob) => open(blob));
  const received = await untilAborted(Promise.all(pulls.map(({ finished }) => finished)), signal);
  const seconds = (performance.now() - began) / 1000;
  const { peak } = await memoryOf(mirror.pid);
  const before = warm.map(({ bytes }) => bytes);
  await delay(2_000, undefined, { signal });
  return {
    start,
    peak,
    whole: received.filter(({ sha256 }, n) => `sha256:${sha256}` === cold[n]?.digest).length,
    flowing: warm.filter(({ bytes }, n) => bytes > Number(before[n])).length,
    seconds,
  };
}

/** Prints it. Whether it is as it should be. */
export function tellStreams(streams: Streams, result: StreamsResult): boolean {
  const { start, peak, whole, flowing, seconds } = result;
  const inMebibytes = (bytes: number): string => `${(bytes / mebibyte).toFixed(1)} MiB`;
  const holds = peak < allowedPeak && whole === streams.cold && flowing === streams.warm;
  process.stdout.write(
    [
      `resident memory: start ${inMebibytes(start)}, peak ${inMebibytes(peak)} (allowed: less than ${inMebibytes(allowedPeak)})`,
      `${whole} of ${streams.cold} cold blobs came whole in ${seconds.toFixed(1)} s, beside ${flowing} of ${streams.warm} warm streams`,
      holds ? 'holds' : 'DOES NOT HOLD',
      '',
    ].join('\n'),
  );
  return holds;
}

async function push(lab: Lab, count: number, size: number, seed: string): Promise<Content[]> {
  const blobs: Content[] = [];
  for (let n = 0; n < count; n += 1) blobs.push(await lab.pushBlob(size, `${seed}-${n}`));
  return blobs;
}

export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  return Promise.race([work, promise]);
}
