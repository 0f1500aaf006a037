import { receive } from '../test/fakes/slow-client.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { blobUrl, Lab } from './lab.js';
import { describeMachine, machineText } from './machine.js';
import { fullPlan, sizeText } from './plan.js';
import { readManyStreams, type Streams, tellStreams, untilAborted } from './many-streams.js';
import { memoryOf, resetPeak } from './process-memory.js';

const mebibyte = 1024 * 1024;
const clients = 20;
/** Rule 5: memory does not depend on the blob's size, nor on how slowly its clients read. */
const allowedGrowth = 100 * mebibyte;

interface Pace {
  readonly size: number;
  /** Of each client. */
  readonly bytesPerSecond: number;
  readonly streams: Streams;
}

const streams: Streams = {
  warm: 500,
  cold: 50,
  warmBlob: 64 * mebibyte,
  coldBlob: 8 * mebibyte,
  bytesPerSecond: 256 * 1024,
};
const full: Pace = { size: 1024 * mebibyte, bytesPerSecond: 16 * mebibyte, streams };
const quick: Pace = {
  size: 128 * mebibyte,
  bytesPerSecond: 16 * mebibyte,
  streams: { ...streams, warm: 100, cold: 10, coldBlob: 4 * mebibyte, bytesPerSecond: 512 * 1024 },
};

/**
 * A cold pull of a large blob by clients that are much slower than the upstream; then many streams at once. Returns the
 * exit code.
 */
export function checkMemory(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const pace = readPace(args);
    requireParts('docker-registry', 'openssl');
    process.stdout.write(`${machineText(await describeMachine())}\n`);
    await using lab = await Lab.open(fullPlan, signal);
    const one = tellOne(await pullSlowly(lab, pace, signal));
    const many = tellStreams(pace.streams, await readManyStreams(lab, pace.streams, signal));
    return one && many ? 0 : 1;
  });
}

interface Pulled {
  /** Resident memory in bytes. */
  readonly start: number;
  readonly peak: number;
  readonly whole: number;
  readonly seconds: number;
}

async function pullSlowly(lab: Lab, { size, bytesPerSecond }: Pace, signal: AbortSignal): Promise<Pulled> {
  const blob = await lab.pushBlob(size, 'slow-clients');
  await using mirror = await lab.startMirror('cistern', lab.upstream.url);
  await lab.pullBlob(mirror, await lab.pushBlob(fullPlan.smallBlob, 'first'));
  await resetPeak(mirror.pid);
  const { resident: start } = await memoryOf(mirror.pid);
  say(`${clients} clients pull a cold blob of ${sizeText(size)} at up to ${sizeText(bytesPerSecond)}/s each`);
  const began = performance.now();
  const pulls = Array.from({ length: clients }, () => receive(blobUrl(mirror, blob), { bytesPerSecond }));
  const received = await untilAborted(Promise.all(pulls), signal);
  const seconds = (performance.now() - began) / 1000;
  const { peak } = await memoryOf(mirror.pid);
  const whole = received.filter(({ sha256 }) => `sha256:${sha256}` === blob.digest).length;
  return { start, peak, whole, seconds };
}

function tellOne({ start, peak, whole, seconds }: Pulled): boolean {
  const growth = peak - start;
  const inMebibytes = (bytes: number): string => `${(bytes / mebibyte).toFixed(1)} MiB`;
  const holds = growth < allowedGrowth && whole === clients;
  process.stdout.write(
    [
      `resident memory: start ${inMebibytes(start)}, peak ${inMebibytes(peak)}, growth ${inMebibytes(growth)} (allowed: less than ${inMebibytes(allowedGrowth)})`,
      `${whole} of ${clients} clients received the blob whole, in ${seconds.toFixed(1)} s`,
      holds ? 'holds' : 'DOES NOT HOLD',
      '',
    ].join('\n'),
  );
  return holds;
}

function readPace(args: readonly string[]): Pace {
  const [option, ...rest] = args;
  if (option === undefined) return full;
  if (option === '--quick' && rest.length === 0) return quick;
  throw new CannotMeasure('usage: npm run bench:memory -- [--quick]');
}
