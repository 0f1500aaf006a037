/**
 * The environment in which a process's clock is so far off, and goes on from there; time that it measures, and the
 * times of files, stay right. Debian's faketime does it (the part `faketime`).
 */
export function clockOff(seconds: number): Readonly<Record<string, string>> {
  return {
    // The loader puts the machine's own folder of libraries in for $LIB.
    LD_PRELOAD: '/usr/$LIB/faketime/libfaketimeMT.so.1',
    FAKETIME: `${seconds < 0 ? '' : '+'}${seconds}s`,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
}
