import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';

export interface Download {
  /** From the request to the first byte of the body, in seconds. */
  readonly firstByte: number;
  /** From the request to the last byte of the body, in seconds. */
  readonly whole: number;
}

/** A pull through a mirror, and a download of the same or the like from its upstream. */
export interface PullBeside {
  readonly direct: Download;
  readonly pull: Download;
}

/** One GET on a connection of its own. Throws unless it is answered with 200 and exactly `size` bytes. */
export async function download(
  url: string,
  size: number,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<Download> {
  const agent = new Agent({ keepAlive: false });
  const started = performance.now();
  const asked = request(url, { agent, signal, headers });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let firstByte: number | undefined;
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    firstByte ??= performance.now();
    bytes += chunk.byteLength;
  });
  await once(response, 'close');
  const ended = performance.now();
  if (response.statusCode !== 200 || bytes !== size || firstByte === undefined) {
    throw new Error(`GET ${url} gave ${response.statusCode} and ${bytes} bytes, not ${size}`);
  }
  return { firstByte: (firstByte - started) / 1000, whole: (ended - started) / 1000 };
}
