import type { Writable } from 'node:stream';
import type { Progress } from '../scheduler/job.js';

/** Where a command writes. Colours and cursor movements only where somebody sees them. */
export interface Streams {
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
}

const barWidth = 24;
const drawMs = 100;
/** Where lines stay, one now and then is enough. */
const lineMs = 10_000;
const clearLine = '\r\u001B[K';

/** Results on standard output; on standard error how far it is: a bar on a terminal, lines elsewhere. */
export class Display {
  #shown: Progress | undefined;
  #barDrawn = false;
  #lastMs = -Infinity;

  constructor(
    private readonly streams: Streams,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** A result. Settles when more may be written. */
  async result(line: string): Promise<void> {
    this.#clear();
    if (this.streams.stdout.write(`${line}\n`)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.streams.stdout.once('drain', resolve);
    this.streams.stdout.once('close', resolve);
    await promise;
    this.streams.stdout.off('drain', resolve);
    this.streams.stdout.off('close', resolve);
  }

  /** Something to know besides. */
  note(line: string): void {
    this.#clear();
    this.streams.stderr.write(`${line}\n`);
  }

  progress(progress: Progress): void {
    const newWork = progress.doing !== this.#shown?.doing;
    this.#shown = progress;
    const terminal = this.streams.stderr.isTTY === true;
    if (!newWork && this.now() - this.#lastMs < (terminal ? drawMs : lineMs)) return;
    this.#lastMs = this.now();
    if (!terminal) {
      this.streams.stderr.write(`${describe(progress)}\n`);
      return;
    }
    const { columns = 80 } = this.streams.stderr;
    this.streams.stderr.write(clearLine + bar(progress).slice(0, columns - 1));
    this.#barDrawn = true;
  }

  /** Leaves nothing half drawn. */
  end(): void {
    this.#clear();
  }

  #clear(): void {
    if (this.#barDrawn) this.streams.stderr.write(clearLine);
    this.#barDrawn = false;
  }
}

function bar(progress: Progress): string {
  const { done, total } = progress;
  if (total === undefined || total === 0) return describe(progress);
  const share = Math.min(1, done / total);
  const full = Math.round(share * barWidth);
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  return `[${'='.repeat(full)}${' '.repeat(barWidth - full)}]${percent} ${describe(progress)}`;
}

function describe({ doing, done, total }: Progress): string {
  if (total !== undefined) return `${doing}: ${done} of ${total}`;
  return done === 0 ? doing : `${doing}: ${done}`;
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

/** `1.2 MB`, in powers of ten as `proxy.maxsize` counts. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // As it will be rounded: 999.96 kB is 1.0 MB.
  while ((unit === 0 ? value : Number(value.toFixed(1))) >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
