/** What goes wrong with one answer. Positions count bytes of that answer's body, as sent. */
export interface Fault {
  /** The request is taken and never answered. */
  readonly hang?: true;
  /** Nothing is sent before this settles. */
  readonly headersAfter?: Promise<unknown>;
  readonly headersAfterMs?: number;
  /** Instead of what it would have said. */
  readonly answer?: {
    readonly status: number;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string | Buffer;
  };
  /** 307 to this address. */
  readonly redirect?: string;
  /** The connection ends after so many bytes. */
  readonly cutAt?: number;
  /** How it ends: a clean close (default) or a reset. */
  readonly cut?: 'close' | 'reset';
  /** Nothing more is sent after so many bytes, until `until` settles (default: never). */
  readonly stallAt?: number;
  readonly until?: Promise<unknown>;
  /** This byte's bits are turned over. */
  readonly corruptAt?: number;
  /** Says so, sends what it has and closes. */
  readonly contentLength?: number;
  readonly contentRange?: string;
  /** Answers 200 and the whole. */
  readonly ignoreRange?: true;
  /** No Content-Length. */
  readonly chunked?: true;
  /** Set over its own headers; `undefined` leaves one out. Names in lower case. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
}

export interface Match {
  readonly method?: string;
  /** Equal to the path without its query, or matching it. */
  readonly path?: string | RegExp;
}

export interface RuleMatch extends Match {
  /** Only the nth matching request since the rule was made, from 1 on. */
  readonly nth?: number;
  /** Only so many matching requests, from the first on. */
  readonly times?: number;
}

export function matches(match: Match, request: { readonly method: string; readonly path: string }): boolean {
  if (match.method !== undefined && match.method !== request.method) return false;
  if (match.path === undefined) return true;
  return typeof match.path === 'string' ? match.path === request.path : match.path.test(request.path);
}

/** The faults that were asked for. Of several that fit, the first made is taken. */
export class FaultPlan {
  readonly #rules: { readonly match: RuleMatch; readonly fault: Fault; seen: number }[] = [];

  add(match: RuleMatch, fault: Fault): void {
    this.#rules.push({ match, fault, seen: 0 });
  }

  clear(): void {
    this.#rules.length = 0;
  }

  take(request: { readonly method: string; readonly path: string }): Fault {
    let taken: Fault | undefined;
    for (const rule of this.#rules) {
      if (!matches(rule.match, request)) continue;
      rule.seen += 1;
      const { nth = rule.seen, times = Infinity } = rule.match;
      if (rule.seen === nth && rule.seen <= times) taken ??= rule.fault;
    }
    return taken ?? {};
  }
}
