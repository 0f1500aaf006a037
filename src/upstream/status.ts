import { readRetryAfter } from './rate-limit.js';
import type { Reply } from './transport.js';
import { UpstreamError, type UpstreamCode } from './upstream.js';

const meanings: Readonly<Record<number, UpstreamCode>> = {
  401: 'not-found',
  403: 'denied',
  404: 'not-found',
  416: 'range',
  429: 'rate-limited',
};

/** What a status that is not the expected one means. `asked` says to what: `HEAD manifest`. The caller discards the body. */
export function statusError(host: string, reply: Reply, asked: string): UpstreamError {
  const { status } = reply;
  const code = meanings[status] ?? (status >= 500 ? 'server-error' : 'invalid');
  return new UpstreamError(code, host, `answered ${status} to ${asked}`, {
    status,
    retryAfterMs: readRetryAfter(reply.headers['retry-after'], Date.now()),
  });
}
