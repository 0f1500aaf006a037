import type { Logger } from './log.js';
import { tracingSettings } from './tracing-settings.js';
import type { Tracing } from './tracing.js';

/** Traces as the environment wants them; none without an endpoint, and then its SDK is not loaded. */
export async function startTracing(env: NodeJS.ProcessEnv, log: Logger): Promise<Tracing | undefined> {
  const settings = tracingSettings(env, (message) => log.warn(message));
  if (settings === undefined) return undefined;
  const { OtlpTracing } = await import('./tracing-otlp.js');
  return OtlpTracing.start(settings, log);
}
