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

/** A clock of one process that moves while the process runs. */
export interface MovableClock {
  readonly env: Readonly<Record<string, string>>;
  /** So many seconds before the machine's from now on; less than 0: after it. */
  ahead(seconds: number): Promise<void>;
}

/**
 * All clocks of a process, that by which it measures time among them.
 *
 * @param path of a file for it, in a folder of the test's
 */
export function movableClock(path: string): Promise<MovableClock> {
  return clockIn(path, { FAKETIME_NO_CACHE: '1' });
}

/** The time of day of a process alone: it steps, and timers do not notice. It takes a step within a second. */
export function movableWallClock(path: string): Promise<MovableClock> {
  return clockIn(path, {
    // The C library's own memory: Redis has another, which asks for the time before faketime can tell it.
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
