import { describe, expect, it } from 'vitest';
import { tracingSettings } from './tracing-settings.js';

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user:hunter2@collector:4318' };

function settingsOf(env: NodeJS.ProcessEnv) {
  const said: string[] = [];
  return { settings: tracingSettings(env, (message) => said.push(message)), said };
}

describe('traces', () => {
  it.each([
    ['there is no endpoint', { OTEL_SERVICE_NAME: 'mirror' }],
    ['the endpoint is empty', { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }],
    ['the SDK is disabled', { ...endpoint, OTEL_SDK_DISABLED: 'TRUE' }],
    ['there is no exporter', { ...endpoint, OTEL_TRACES_EXPORTER: 'none' }],
  ])('are not sent, and nobody is told, where %s', (_, env) => {
    expect(settingsOf(env)).toEqual({ settings: undefined, said: [] });
  });

  it.each([
    ['another exporter', { ...endpoint, OTEL_TRACES_EXPORTER: 'console' }],
    ['gRPC', { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }],
    ['what is no URL', { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'hunter2:4317' }],
  ])('are not sent for %s, and it is said why, without the endpoint', (_, env) => {
    const { settings, said } = settingsOf(env);
    expect(settings).toBeUndefined();
    expect(said).toEqual([expect.stringContaining('no traces are sent: ')]);
    expect(said.join()).not.toContain('hunter2');
  });

  it('are all sent by default, and those of who asks with a trace of their own as they say', () => {
    expect(settingsOf(endpoint)).toEqual({
      settings: { sampler: { name: 'parentbased_always_on', ratio: 1 }, batch: {} },
      said: [],
    });
  });

  it('go by the variables of OpenTelemetry, as far as they make sense', () => {
    const { settings } = settingsOf({
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://collector/v1/traces',
      OTEL_TRACES_SAMPLER: 'traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
      OTEL_BSP_SCHEDULE_DELAY: '200',
      OTEL_BSP_MAX_QUEUE_SIZE: '-5',
    });
    expect(settings).toEqual({
      sampler: { name: 'traceidratio', ratio: 0.25 },
      batch: { scheduledDelayMillis: 200 },
    });
    const odd = settingsOf({
      ...endpoint,
      OTEL_TRACES_SAMPLER: 'jaeger_remote',
      OTEL_TRACES_SAMPLER_ARG: '7',
    });
    expect(odd.settings?.sampler).toEqual({ name: 'parentbased_always_on', ratio: 1 });
    expect(odd.said).toEqual([expect.stringContaining('OTEL_TRACES_SAMPLER')]);
  });
});
