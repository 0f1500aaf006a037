import { rename, writeFile } from 'node:fs/promises';

// The loader puts the machine's own folder of libraries in for $LIB.
const library = { LD_PRELOAD: '/usr/$LIB/faketime/libfaketimeMT.so.1' };

/**
 * The environment in which a process's clock is so far off, and goes on from there; time that it measures, and the
 * times of files, stay right. Debian's faketime does it (the part `faketime`).
 */
export function clockOff(seconds: number): Readonly<Record<string, string>> {
  return {
    ...library,
    FAKETIME: `${seconds < 0 ? '' : '+'}${seconds}s`,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
}

/** A clock of one process that a test can move while the process runs. */
export interface MovableClock {
  readonly env: Readonly<Record<string, string>>;
  /** Sets the clock this many seconds ahead of the machine's; a negative number sets it behind. */
  ahead(seconds: number): Promise<void>;
}

/**
 * Moves all clocks of a process, also the monotonic one.
 *
 * @param path a file for the clock's offset, in a folder of the test
 */
export function movableClock(path: string): Promise<MovableClock> {
  return clockIn(path, { FAKETIME_NO_CACHE: '1' });
}

/** Moves only the time of day of a process, not its timers. The process sees a step within a second. */
export function movableWallClock(path: string): Promise<MovableClock> {
  return clockIn(path, {
    // Uses the C library's allocator, because that of Redis asks for the time before faketime is ready.
    LD_PRELOAD: `${library.LD_PRELOAD} libc.so.6`,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    FAKETIME_CACHE_DURATION: '1',
  });
}

async function clockIn(path: string, how: Readonly<Record<string, string>>): Promise<MovableClock> {
  const ahead = async (seconds: number): Promise<void> => {
    await writeFile(`${path}.next`, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
    await rename(`${path}.next`, path); // half a file is another time
  };
  await ahead(0);
  return { env: { ...library, FAKETIME_TIMESTAMP_FILE: path, ...how }, ahead };
}
