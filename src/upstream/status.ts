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

/** Behind a redirect, these come from a storage or a login page: the registry itself has not refused. */
const refusals: ReadonlySet<number> = new Set([401, 403]);

/** The error for an unexpected status. `asked` names the request: `HEAD manifest`. The caller discards the body. */
export function statusError(host: string, reply: Reply, asked: string): UpstreamError {
  const { status, redirected } = reply;
  const meaning = meanings[status] ?? (status >= 500 ? 'server-error' : 'invalid');
  const code = redirected && refusals.has(status) ? 'invalid' : meaning;
  return new UpstreamError(
    code,
    host,
    `answered ${status} to ${asked}${redirected ? ', behind a redirect' : ''}`,
    {
      status,
      retryAfterMs: readRetryAfter(reply.headers['retry-after'], Date.now()),
    },
  );
}
