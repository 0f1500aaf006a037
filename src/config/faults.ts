/** Something worth one line in the log, which does not stop the start. */
export interface ConfigNote {
  /** The key (`proxy.ttl`) or the environment variable that it is about. */
  readonly key: string;
  readonly message: string;
}

/** A value that stops the start. Nothing in it is ever a secret. */
export interface ConfigFault {
  readonly key: string;
  readonly got: string;
  readonly wanted: string;
  /** The environment variable that the value came from. */
  readonly env?: string | undefined;
}

/** A configuration that nothing may be started with. Holds every fault that was found, not the first one. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'invalid-configuration';
  constructor(
    readonly source: string,
    readonly faults: readonly ConfigFault[],
  ) {
    super(`${source}: ${faults.length === 1 ? 'a fault' : `${faults.length} faults`} in the configuration`);
  }
}

/** For people: what is wrong and where, one line per fault. */
export function formatFaults(error: ConfigError): string {
  const lines = error.faults.map(({ key, got, wanted, env }) => {
    const place = env === undefined ? key : `${key} (from ${env})`;
    return `  ${place}: got ${got}; wanted ${wanted}`;
  });
  return [`${error.message}:`, ...lines].join('\n');
}
