/** OpenTelemetry's environment variables, as far as its SDK for Node leaves them to the program. */
export interface TracingSettings {
  readonly sampler: { readonly name: SamplerName; readonly ratio: number };
  /** In milliseconds, and spans. */
  readonly batch: Readonly<{
    scheduledDelayMillis?: number;
    exportTimeoutMillis?: number;
    maxQueueSize?: number;
    maxExportBatchSize?: number;
  }>;
}

const samplers = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;
export type SamplerName = (typeof samplers)[number];

/**
 * What the environment wants. `undefined`: no traces; `warn` is told why where somebody seems to want them. Empty
 * variables count as absent, and what cannot be understood as its default (OpenTelemetry, environment variables).
 */
export function tracingSettings(
  env: NodeJS.ProcessEnv,
  warn: (message: string) => void,
): TracingSettings | undefined {
  const of = (name: string): string | undefined => env[`OTEL_${name}`]?.trim() || undefined;
  const endpoint = of('EXPORTER_OTLP_TRACES_ENDPOINT') ?? of('EXPORTER_OTLP_ENDPOINT');
  if (endpoint === undefined || of('SDK_DISABLED')?.toLowerCase() === 'true') return undefined;
  const exporter = of('TRACES_EXPORTER') ?? 'otlp';
  if (exporter === 'none') return undefined;
  const protocol = of('EXPORTER_OTLP_TRACES_PROTOCOL') ?? of('EXPORTER_OTLP_PROTOCOL') ?? 'http/json';
  const why = whyNot(endpoint, exporter, protocol);
  if (why !== undefined) {
    warn(`no traces are sent: ${why}`);
    return undefined;
  }
  const wanted = of('TRACES_SAMPLER') ?? 'parentbased_always_on';
  const name = samplers.find((each) => each === wanted);
  if (name === undefined) warn(`OTEL_TRACES_SAMPLER is none of ${samplers.join(', ')}: all traces are sent`);
  return {
    sampler: { name: name ?? 'parentbased_always_on', ratio: ratioOf(of('TRACES_SAMPLER_ARG')) },
    batch: {
      ...numberAs('scheduledDelayMillis', of('BSP_SCHEDULE_DELAY')),
      ...numberAs('exportTimeoutMillis', of('BSP_EXPORT_TIMEOUT')),
      ...numberAs('maxQueueSize', of('BSP_MAX_QUEUE_SIZE')),
      ...numberAs('maxExportBatchSize', of('BSP_MAX_EXPORT_BATCH_SIZE')),
    },
  };
}

/** Without the values: an endpoint may hold a password. */
function whyNot(endpoint: string, exporter: string, protocol: string): string | undefined {
  if (exporter !== 'otlp') return 'OTEL_TRACES_EXPORTER is neither otlp nor none';
  if (protocol === 'grpc')
    return 'OTLP is spoken over HTTP here, not gRPC: use the port 4318 of the collector';
  if (!/^https?:$/.test(URL.parse(endpoint)?.protocol ?? ''))
    return 'the OTLP endpoint is no http or https URL';
  return undefined;
}

function ratioOf(text: string | undefined): number {
  const ratio = Number(text ?? 1);
  return ratio >= 0 && ratio <= 1 ? ratio : 1;
}

function numberAs<const K extends string>(key: K, text: string | undefined): { [key in K]?: number } {
  const number = Number(text);
  return text !== undefined && Number.isSafeInteger(number) && number > 0
    ? ({ [key]: number } as { [key in K]?: number })
    : {};
}
