import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { Coordinator } from '../cluster/cluster.js';
import { Neighbours } from '../cluster/peers/neighbours.js';
import { digestOf } from '../oci/digest.js';
import type { UpstreamError } from '../upstream/upstream.js';
import { ClusterFiller } from './cluster-filler.js';
import type { Filling, Source } from './filler.js';
import type { Shelf } from './local-filler.js';

const log = pino({ level: 'silent' });
const content = Buffer.from('content');
const digest = digestOf(content);

/** Another replica takes the lease again and again, and never publishes its address. */
function startBesideRestlessReplica() {
  let rounds = 0;
  const coordinator = {
    tryLead: () => {
      rounds += 1;
      if (rounds > 1_000) return Promise.reject(new Error('tried to lead without end'));
      return Promise.resolve(undefined);
    },
    leader: () => Promise.resolve(undefined),
    spools: () => Promise.resolve([]),
    state: () => Promise.resolve('free'),
    announceSpool: () => undefined,
    withdrawSpool: () => undefined,
  } as unknown as Coordinator;
  const source = {
    upstream: {
      host: 'example.com',
      fetchBlob: () =>
        Promise.resolve({
          size: content.byteLength,
          body: (async function* () {
            yield content;
          })(),
        }),
    },
    repository: 'o/app',
    stored: 'o/app',
  } as unknown as Source;
  const stop = new AbortController();
  const chunks: Uint8Array[] = [];
  const filling: Filling = {
    digest,
    get length() {
      return chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
    },
    size: undefined,
    isOpen: false,
    signal: stop.signal,
    nextSource: () => source,
    refuse: (_, error: UpstreamError) => {
      throw error;
    },
    open: () => undefined,
    append: (chunk) => Promise.resolve(void chunks.push(Buffer.from(chunk))),
  };
  const filler = new ClusterFiller(digest, {
    coordinator,
    seals: () => [],
    neighbours: new Neighbours(log),
    self: { url: 'http://127.0.0.1:1', attempt: '0' },
    shelf: {
      blobs: { stat: () => Promise.resolve(undefined) },
      clear: () => Promise.resolve(),
    } as unknown as Shelf,
    lead: { maxBytes: 1_000, read: () => undefined, resumed: () => undefined },
    unusable: undefined,
    log,
    role: () => undefined,
    tracing: undefined,
  });
  return { filler, filling, stop, chunks, rounds: () => rounds };
}

describe('a replica beside one that takes the lease and sends no bytes', () => {
  it('fetches alone after a while', async () => {
    const { filler, filling, chunks } = startBesideRestlessReplica();
    await filler.fill(filling);
    await filler.close(false);
    expect(Buffer.concat(chunks)).toEqual(content);
  });

  it('stops when the transfer is given up', async () => {
    const { filler, filling, stop, rounds } = startBesideRestlessReplica();
    const filled = filler.fill(filling);
    await expect.poll(rounds).toBeGreaterThan(1);
    stop.abort(new Error('given up'));
    await expect(filled).rejects.toMatchObject({ name: 'AbortError' });
    await filler.close(false);
    expect(rounds()).toBeLessThan(100);
  });
});
