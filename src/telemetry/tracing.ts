/** What spans say of themselves; values that may be absent are left out. Never a secret, a URL or a client's address. */
export type TraceAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

export interface SpanOptions {
  /** `server`: somebody asked us; `client`: we ask somebody. Else our own work. */
  readonly kind?: 'server' | 'client';
  readonly attributes?: TraceAttributes;
  /** `traceparent` of whoever asked (W3C Trace Context). What is not one is ignored. */
  readonly parent?: string | string[] | undefined;
}

/** Something that goes on. */
export interface TraceSpan {
  /** Of all spans that belong together: 32 hexadecimal digits. */
  readonly traceId: string;
  /** Does work as a part of it: what begins therein, however much later, is its child. */
  run<T>(work: () => T): T;
  set(attributes: TraceAttributes): void;
  /** Once. `failure`: what was thrown. */
  end(failure?: unknown): void;
}

/**
 * Traces, where they are wanted. Elsewhere there is no such object, and nothing is paid for it but a look. No method
 * throws, waits or fails because the collector is away.
 */
export interface Tracing {
  /** A span in what goes on here; else in what `parent` names; else the first of a new trace. */
  begin(name: string, options?: SpanOptions): TraceSpan;
  /** Something that is over, begun at `started` (`performance.now()`). Only what is part of a span is told. */
  record(name: string, started: number, options?: SpanOptions): void;
  /** Adds to the span that goes on here. */
  annotate(attributes: TraceAttributes): void;
  /** What another replica continues; for replicas alone, never for foreign hosts. */
  headers(): Readonly<Record<string, string>>;
  /** Sends what is left, within a few seconds. */
  close(): Promise<void>;
}
