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

/** The clocks of one process, that by which it measures time among them: they can go ahead while it runs. */
export interface MovableClock {
  readonly env: Readonly<Record<string, string>>;
  /** So many seconds before the machine's from now on. */
  ahead(seconds: number): Promise<void>;
}

/** @param path of a file for it, in a folder of the test's */
export async function movableClock(path: string): Promise<MovableClock> {
  const ahead = async (seconds: number): Promise<void> => {
    await writeFile(`${path}.next`, `+${seconds}s\n`);
    await rename(`${path}.next`, path); // half a file is another time
  };
  await ahead(0);
  return { env: { ...library, FAKETIME_TIMESTAMP_FILE: path, FAKETIME_NO_CACHE: '1' }, ahead };
}
