import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import {
  isSpanContextValid,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  detectResources,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type Sampler,
  type SpanExporter,
} from '@opentelemetry/sdk-trace';
import { within } from '../async/wait.js';
import type { Logger } from './log.js';
import type { TracingSettings } from './tracing-settings.js';
import type { SpanOptions, TraceAttributes, TraceSpan, Tracing } from './tracing.js';
import { version } from './version.js';

/** What is left at the end is given up after this. */
const closingMs = 5_000;
const kinds = { server: SpanKind.SERVER, client: SpanKind.CLIENT } as const;

/** Traces over OTLP. This file alone knows OpenTelemetry, and is loaded only where there is an endpoint. */
export class OtlpTracing implements Tracing {
  readonly #contexts = new AsyncLocalStorage<Context>();
  readonly #tracer: Tracer;

  private constructor(
    private readonly provider: TracerProvider,
    private readonly log: Logger,
  ) {
    this.#tracer = provider.getTracer('cistern', version);
  }

  static start({ sampler, batch }: TracingSettings, log: Logger): OtlpTracing {
    const own = resourceFromAttributes({
      'service.name': 'cistern',
      'service.version': version,
      'service.instance.id': randomUUID(),
    });
    const told = detectResources({ detectors: [resourceAttributesEnvDetector, serviceNameEnvDetector] });
    const exporter = sayingOnce(new OTLPTraceExporter(), log);
    const provider = new TracerProvider({
      resource: own.merge(told),
      sampler: samplerOf(sampler),
      spanProcessors: [new BatchSpanProcessor({ ...batch, exporter })],
    });
    log.info('traces are sent');
    return new OtlpTracing(provider, log);
  }

  begin(name: string, { kind, attributes = {}, parent }: SpanOptions = {}): TraceSpan {
    const context = this.#contexts.getStore() ?? contextOf(parent);
    const span = this.#tracer.startSpan(name, { ...kindOf(kind), attributes: present(attributes) }, context);
    const within = trace.setSpan(context, span);
    return {
      traceId: span.spanContext().traceId,
      run: (work) => this.#contexts.run(within, work),
      set: (more) => void span.setAttributes(present(more)),
      end: (failure) => end(span, failure),
    };
  }

  record(name: string, started: number, { kind, attributes = {} }: SpanOptions = {}): void {
    const context = this.#contexts.getStore();
    // What outlives the span that it was begun in, such as a timer, is no part of it.
    if (context === undefined || trace.getSpan(context)?.isRecording() !== true) return;
    const startTime = performance.timeOrigin + started;
    const options = { ...kindOf(kind), attributes: present(attributes), startTime };
    this.#tracer.startSpan(name, options, context).end();
  }

  annotate(attributes: TraceAttributes): void {
    this.#active()?.setAttributes(present(attributes));
  }

  headers(): Readonly<Record<string, string>> {
    const context = this.#active()?.spanContext();
    if (context === undefined) return {};
    const flags = context.traceFlags.toString(16).padStart(2, '0');
    return { traceparent: `00-${context.traceId}-${context.spanId}-${flags}` };
  }

  async close(): Promise<void> {
    try {
      await within(this.provider.shutdown(), closingMs, () => new Error(`not within ${closingMs} ms`));
    } catch (error) {
      this.log.warn(codesOf(error), 'the last traces could not be sent');
    }
  }

  #active(): Span | undefined {
    const context = this.#contexts.getStore();
    return context && trace.getSpan(context);
  }
}

function kindOf(kind: SpanOptions['kind']): { kind?: SpanKind } {
  return kind === undefined ? {} : { kind: kinds[kind] };
}

function present(attributes: TraceAttributes): Record<string, string | number | boolean> {
  const entries = Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value] as const],
  );
  return Object.fromEntries(entries);
}

function end(span: Span, failure: unknown): void {
  if (failure !== undefined) {
    // By its name alone: a message may quote what somebody sent.
    const { name, code } = failure as { readonly name?: unknown; readonly code?: unknown };
    span.setAttribute('error.type', typeof code === 'string' ? code : String(name ?? 'error'));
    span.setStatus({ code: SpanStatusCode.ERROR });
  }
  span.end();
}

/** W3C Trace Context, `traceparent` of version 00. */
function contextOf(header: string | string[] | undefined): Context {
  const [, traceId, spanId, flags] =
    /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(typeof header === 'string' ? header : '') ?? [];
  if (traceId === undefined || spanId === undefined) return ROOT_CONTEXT;
  const remote: SpanContext = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags ?? '', 16),
    isRemote: true,
  };
  return isSpanContextValid(remote) ? trace.setSpanContext(ROOT_CONTEXT, remote) : ROOT_CONTEXT;
}

function samplerOf({ name, ratio }: TracingSettings['sampler']): Sampler {
  const root = (): Sampler => {
    if (name.endsWith('always_off')) return new AlwaysOffSampler();
    return name.endsWith('traceidratio') ? new TraceIdRatioBasedSampler(ratio) : new AlwaysOnSampler();
  };
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root: root() }) : root();
}

/** Of the collector's trouble: what it answers may quote our headers. */
function codesOf(error: unknown): { readonly type: unknown; readonly code: unknown } {
  const { name, code } = error as { readonly name?: unknown; readonly code?: unknown };
  return { type: name, code };
}

/** Tells of an outage of the collector once, and of its end. */
function sayingOnce(exporter: SpanExporter, log: Logger): SpanExporter {
  let away = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const { error } = result;
        if (error !== undefined && !away) {
          log.warn(codesOf(error), 'traces cannot be sent, they are dropped until they can');
        }
        if (error === undefined && away) log.info('traces are sent again');
        away = error !== undefined;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
  };
}
