import { parseArgs } from 'node:util';
import { has, type Part } from '../test/parts/debian.js';

/** Something that whoever started the benchmark can put right; told without a stack. */
export class CannotMeasure extends Error {
  override readonly name = 'CannotMeasure';
  readonly code = 'cannot-measure';
}

/** Throws where a program that is needed is not installed, with what would bring it. */
export function requireParts(...parts: readonly Exclude<Part, 'root'>[]): void {
  const missing = parts.filter((part) => !has(part));
  if (missing.length > 0) throw new CannotMeasure(`not installed here: apt-get install ${missing.join(' ')}`);
}

/** The options of a benchmark that has no others. Throws with its usage where something else is given. */
export function quickAndPublish(
  args: readonly string[],
  name: string,
): { readonly quick: boolean; readonly publish: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        publish: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(`${error.message}\nusage: npm run ${name} -- [--quick] [--publish]`);
  }
}

/** Runs a benchmark to its exit code. SIGINT and SIGTERM end it, and all that it started, in good order. */
export async function runBenchmark(benchmark: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const stopped = new AbortController();
  const stop = (): void => stopped.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    return await benchmark(stopped.signal);
  } catch (error) {
    if (stopped.signal.aborted) say('stopped');
    else if (error instanceof CannotMeasure) say(error.message);
    else throw error;
    return 1;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** How it goes, beside the results on standard output. */
export function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
