import type { S3Client } from '@aws-sdk/client-s3';
import { StorageError } from '../storage.js';

type Handler = S3Client['config']['requestHandler'];

interface SignedRequest {
  readonly method: string;
  readonly url: URL;
  /** Those that are signed and not in the address. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Sends a request without a body to a signed address, once, over the connections of the client. The SDK's own way to
 * send would sign it anew, and try again.
 */
export async function sendSigned(
  { config: { requestHandler } }: S3Client,
  { method, url, headers }: SignedRequest,
  signal: AbortSignal,
): Promise<void> {
  const { protocol, hostname, port, pathname, searchParams, host } = url;
  const request = {
    method,
    protocol,
    hostname,
    ...(port === '' ? {} : { port: Number(port) }),
    path: pathname,
    query: Object.fromEntries(searchParams),
    headers: { host, ...headers },
  } as unknown as Parameters<Handler['handle']>[0];
  const { response } = await requestHandler.handle(request, { abortSignal: signal });
  (response.body as { resume?: () => void } | undefined)?.resume?.();
  if (response.statusCode >= 300) {
    const code = response.statusCode === 403 ? 'denied' : 'io';
    throw new StorageError(code, `the server answered ${response.statusCode} to ${method} ${pathname}`);
  }
}
