import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { AdminEvent } from './admin.js';

export const eventsType = 'application/x-ndjson';

/** Runs work for one who may leave; returns its events. */
export type Begin = (signal: AbortSignal) => AsyncIterable<AdminEvent>;

/**
 * Sends events, a JSON object a line, as they come. What is thrown before the first is thrown here, with nothing sent
 * yet; a client that leaves ends the work.
 */
export async function sendEvents(response: ServerResponse, begin: Begin): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort(new Error('the client has left')));
  const events = begin(gone.signal)[Symbol.asyncIterator]();
  try {
    let next = await events.next();
    response.writeHead(200, { 'Content-Type': eventsType, 'Cache-Control': 'no-store' });
    for (; next.done !== true; next = await events.next()) {
      const more = response.write(`${JSON.stringify(next.value)}\n`);
      if (!more) await once(response, 'drain', { signal: gone.signal });
    }
    response.end();
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    await events.return?.();
  }
}
