import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';

/** The message of the log line for each error that no code handled. Tests look for it. */
export const unhandledMessage = 'an error was not handled: please report it';

/**
 * Logs and counts errors that no code handled, and keeps the process serving: one request's fault must not end the
 * pulls of all other clients (Node ends a process on `unhandledRejection` and `uncaughtException` by default).
 */
export function surviveUnhandledErrors(
  log: Logger,
  { unhandledErrors }: Pick<Metrics, 'unhandledErrors'>,
): void {
  for (const origin of ['unhandledRejection', 'uncaughtException'] as const) {
    process.on(origin, (err: unknown) => {
      unhandledErrors.inc();
      log.error({ err, origin }, unhandledMessage);
    });
  }
}
