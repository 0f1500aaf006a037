import { parseDigest, type Digest } from '../oci/digest.js';
import { parseRange, type RequestedRange } from '../oci/range.js';
import type { Blobs } from '../proxy/blobs.js';
import type { BlobAnswer, Outcome } from '../proxy/proxy.js';
import type { Route } from '../upstream/directory.js';
import type { UsageRecorder } from '../usage/usage.js';
import { WrongLength, type BodySender } from './body-sender.js';
import { RegistryError, unknownContent } from './errors.js';
import type { Exchange } from './exchange.js';
import { matches } from './manifest-reply.js';
import { longestReady } from './ready-answers.js';
import { cacheHeaders, sendHead, sendHeldBytes, type Headers } from './reply.js';

/** GET and HEAD of blobs, with ranges. Bytes go out as they are stored, without any content encoding. */
export class BlobReply {
  constructor(
    private readonly blobs: Blobs,
    private readonly usage: UsageRecorder,
    private readonly sender: BodySender,
  ) {}

  async send(exchange: Exchange, route: Route, reference: string): Promise<void> {
    const digest = parseDigest(reference);
    if (digest === undefined) throw new RegistryError('DIGEST_INVALID');
    const conditional = matches(exchange.request.headers['if-none-match'], digest);
    if (exchange.isHead || conditional) return this.#sendHead(exchange, route, digest, conditional);
    const elsewhere = this.blobs.recallLocation(route, digest) ?? (await this.blobs.locate(route, digest));
    if (elsewhere !== undefined) {
      this.usage.touch(route.stored, digest);
      this.#sendRedirect(exchange, route, digest, elsewhere.url, elsewhere.outcome);
      return;
    }
    const answer = await this.blobs.open(route, digest, wantedRange(exchange, digest), exchange.signal);
    if (answer === undefined) throw unknownContent('blob', `unknown blob ${digest}`);
    const release = this.usage.hold(route.stored, digest);
    try {
      await this.#sendBody(exchange, route, digest, answer);
    } finally {
      release();
      await answer.close();
    }
  }

  async #sendHead(exchange: Exchange, route: Route, digest: Digest, conditional: boolean): Promise<void> {
    const found = await this.blobs.head(route, digest, exchange.signal);
    if (found === undefined) throw unknownContent('blob', `unknown blob ${digest}`);
    this.usage.touch(route.stored, digest);
    const headers = this.#headers(exchange, route, digest, found.outcome);
    if (conditional) {
      sendHead(exchange, 304, headers);
      return;
    }
    if (found.size !== undefined) headers['Content-Length'] = found.size;
    sendHead(exchange, 200, { ...headers, 'Content-Type': 'application/octet-stream' });
    if (found.outcome === 'hit') exchange.repeatable = { body: undefined, until: Infinity };
  }

  /** The answer itself must not be cached: the address in it ends before the content does. */
  #sendRedirect(exchange: Exchange, route: Route, digest: Digest, url: string, outcome: Outcome): void {
    exchange.outcome = outcome;
    sendHead(exchange, 307, {
      'Docker-Content-Digest': digest,
      Etag: `"${digest}"`,
      'Cache-Control': 'no-store',
      'OCI-Namespace': route.host,
      ...cacheHeaders({ outcome, age: undefined, warning: undefined }),
      'Content-Length': 0,
      Location: url,
    });
    // Addresses are handed out until minutes before their end.
    if (outcome === 'hit') exchange.repeatable = { body: undefined, until: Infinity };
  }

  async #sendBody(exchange: Exchange, route: Route, digest: Digest, answer: BlobAnswer): Promise<void> {
    const headers = this.#headers(exchange, route, digest, answer.outcome);
    const { size, range } = answer;
    headers['Content-Type'] = 'application/octet-stream';
    if (answer.outcome === 'hit' && range === undefined && size !== undefined && size <= longestReady) {
      const bytes = Buffer.allocUnsafeSlow(size);
      if (exchange.hold(bytes)) {
        await fill(bytes, answer.body);
        sendHeldBytes(exchange, 200, bytes, headers);
        exchange.repeatable = { body: bytes, until: Infinity };
        return;
      }
    }
    const length = range === undefined ? size : range.end - range.start + 1;
    if (length !== undefined) headers['Content-Length'] = length;
    if (range !== undefined) headers['Content-Range'] = `bytes ${range.start}-${range.end}/${size}`;
    exchange.response.writeHead(range === undefined ? 200 : 206, headers);
    await this.sender.send(exchange, answer.body, length);
  }

  #headers(exchange: Exchange, route: Route, digest: Digest, outcome: Outcome): Headers {
    exchange.outcome = outcome;
    return {
      'Docker-Content-Digest': digest,
      Etag: `"${digest}"`,
      'Accept-Ranges': 'bytes',
      'Cache-Control': 'max-age=31536000',
      'OCI-Namespace': route.host,
      ...cacheHeaders({ outcome, age: undefined, warning: undefined }),
    };
  }
}

/** Reads a small body as a whole: it then leaves in one piece. */
async function fill(bytes: Buffer, body: AsyncIterable<Uint8Array>): Promise<void> {
  const size = bytes.byteLength;
  let length = 0;
  for await (const chunk of body) {
    if (length + chunk.byteLength > size) throw new WrongLength(size, length + chunk.byteLength);
    bytes.set(chunk, length);
    length += chunk.byteLength;
  }
  if (length !== size) throw new WrongLength(size, length);
}

function wantedRange(exchange: Exchange, digest: Digest): RequestedRange | undefined {
  const { range, 'if-range': condition } = exchange.request.headers;
  return condition === undefined || condition === `"${digest}"` ? parseRange(range) : undefined;
}
