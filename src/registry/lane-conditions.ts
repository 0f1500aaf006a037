import type { HttpConfig } from '../config/config.js';

export interface LaneConditions {
  readonly http: Pick<HttpConfig, 'headers' | 'prefix' | 'tls'> & {
    readonly limits: Pick<HttpConfig['limits'], 'rate'>;
  };
  /** Whether it matters who asks: logins, certificates, networks. */
  readonly asksWho: boolean;
  /** Whether an upstream is asked what its callers may have. */
  readonly verifiesCallers: boolean;
  readonly traces: boolean;
}

/** What Node writes by itself, or reads. */
const ofTheConnection: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'date',
  'transfer-encoding',
  'content-length',
  'trailer',
]);

/**
 * Why answers may not be given again to the same bytes: something else than these decides, or wants to see each
 * request. `undefined`: they may.
 */
export function whyNoLane({ http, asksWho, verifiesCallers, traces }: LaneConditions): string | undefined {
  if (asksWho) return 'it matters who asks';
  if (verifiesCallers) return 'upstreams are asked about callers';
  if (http.limits.rate !== undefined) return 'requests of each address are counted';
  if ((http.tls?.clientcas.length ?? 0) > 0) return 'clients have certificates';
  if (traces) return 'requests are traced';
  if (http.prefix !== '/') return 'the paths have a prefix';
  if (Object.keys(http.headers).some((name) => ofTheConnection.has(name.toLowerCase())))
    return 'headers of the connection are configured';
  return undefined;
}
