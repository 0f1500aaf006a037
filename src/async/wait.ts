/**
 * Waits for work that continues without this waiter. Settles as the work does, or rejects with the signal's reason if
 * the signal aborts first. A later rejection of the work is handled, so a waiter that leaves cannot end the process.
 */
export function waitFor<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', leave, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
    if (signal.aborted) leave();
  });
}

/**
 * Waits for work for at most `ms` milliseconds, then rejects with the error that `late` makes. An answer that arrived
 * while this process was too busy to read it still counts: timers run before sockets are read.
 */
export async function within<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const limit = new AbortController();
  const timer = setTimeout(() => setImmediate(() => limit.abort(late())), ms);
  try {
    return await waitFor(work, limit.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when all work has settled, or when the signal aborts. Never rejects. */
export async function settled(work: Iterable<Promise<unknown>>, signal: AbortSignal): Promise<void> {
  await waitFor(Promise.allSettled(work), signal).catch(() => undefined);
}

/** Resolves after `ms` milliseconds, or at once when the signal aborts. Never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}
