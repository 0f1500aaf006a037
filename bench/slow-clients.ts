import { receive } from '../test/fakes/slow-client.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { blobUrl, Lab } from './lab.js';
import { describeMachine, machineText } from './machine.js';
import { fullPlan, sizeText } from './plan.js';
import { memoryOf, resetPeak } from './process-memory.js';

const mebibyte = 1024 * 1024;
const clients = 20;
/** Rule 5: memory does not depend on the blob's size, nor on how slowly its clients read. */
const allowedGrowth = 100 * mebibyte;

interface Pace {
  readonly size: number;
  /** Of each client. */
  readonly bytesPerSecond: number;
}

const full: Pace = { size: 1024 * mebibyte, bytesPerSecond: 16 * mebibyte };
const quick: Pace = { size: 128 * mebibyte, bytesPerSecond: 16 * mebibyte };

/** A cold pull of a large blob by clients that are much slower than the upstream. Returns the exit code. */
export function checkMemory(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const pace = readPace(args);
    requireParts('docker-registry', 'openssl');
    process.stdout.write(`${machineText(await describeMachine())}\n`);
    await using lab = await Lab.open(fullPlan, signal);
    const blob = await lab.pushBlob(pace.size, 'slow-clients');
    await using mirror = await lab.startMirror('cistern', lab.upstream.url);
    await lab.pullBlob(mirror, await lab.pushBlob(fullPlan.smallBlob, 'first'));
    await resetPeak(mirror.pid);
    const { resident: start } = await memoryOf(mirror.pid);
    const rate = `${sizeText(pace.bytesPerSecond)}/s`;
    say(`${clients} clients pull a cold blob of ${sizeText(pace.size)} at up to ${rate} each`);
    const began = performance.now();
    const pulls = Array.from({ length: clients }, () =>
      receive(blobUrl(mirror, blob), { bytesPerSecond: pace.bytesPerSecond }),
    );
    const received = await Promise.race([Promise.all(pulls), aborted(signal)]);
    const seconds = (performance.now() - began) / 1000;
    const { peak } = await memoryOf(mirror.pid);
    const whole = received.filter(({ sha256 }) => `sha256:${sha256}` === blob.digest).length;
    return report({ start, peak, whole, seconds });
  });
}

function report(result: { start: number; peak: number; whole: number; seconds: number }): number {
  const { start, peak, whole, seconds } = result;
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
  return holds ? 0 : 1;
}

function readPace(args: readonly string[]): Pace {
  const [option, ...rest] = args;
  if (option === undefined) return full;
  if (option === '--quick' && rest.length === 0) return quick;
  throw new CannotMeasure('usage: npm run bench:memory -- [--quick]');
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  return promise;
}
