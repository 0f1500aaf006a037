import type { ParsedPath } from '../oci/path.js';
import type { TraceSpan, Tracing } from '../telemetry/tracing.js';
import { ClientGone, type Exchange } from './exchange.js';

const longestName = 255;

/** The span of one request, from here to its answer's end. */
export function beginSpan(tracing: Tracing, exchange: Exchange, parsed: ParsedPath | undefined): TraceSpan {
  const { request, response, handler, id } = exchange;
  const method = knownMethods.has(request.method ?? '') ? request.method : 'OTHER';
  const target = parsed?.target ?? { kind: 'base' };
  const name = 'name' in target ? target.name : undefined;
  const reference = 'reference' in target ? target.reference : undefined;
  const span = tracing.begin(`${method} ${handler}`, {
    kind: 'server',
    parent: request.headers['traceparent'],
    attributes: {
      'http.request.method': method,
      'http.request.id': id,
      'cistern.handler': handler,
      'cistern.repository': name?.slice(0, longestName),
      'cistern.reference': reference?.slice(0, longestName),
    },
  });
  response.once('close', () => {
    const { outcome, upstream, sent, failure } = exchange;
    span.set({
      'http.response.status_code': response.statusCode,
      'http.response.body.size': sent,
      'cistern.cache': outcome,
      'cistern.upstream': upstream,
      'cistern.complete': response.writableFinished,
    });
    const isFault = response.statusCode >= 500 || (failure !== undefined && !response.writableFinished);
    span.end(isFault && !(failure instanceof ClientGone) ? (failure ?? {}) : undefined);
  });
  return span;
}

/** A span's name comes from a short list. */
const knownMethods: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'PUT',
  'POST',
  'PATCH',
  'DELETE',
  'OPTIONS',
]);
