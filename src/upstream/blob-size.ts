import type { Digest } from '../oci/digest.js';
import { readContentRange } from './content-range.js';
import { checkBlobAnswer, isOfNothing, sizeOf } from './content-headers.js';
import { statusError } from './status.js';
import { discard, type Method, type Reply } from './transport.js';

/** Statuses by which a server says that it does not support HEAD. They say nothing about the content. */
export const withoutHead: ReadonlySet<number> = new Set([405, 501]);
/** Statuses that a storage may answer to HEAD for a URL that the registry has signed for GET. */
const signedForGet: ReadonlySet<number> = new Set([400, 403]);

/**
 * Asks an upstream for the size of a blob, by HEAD, or by a GET of one byte if HEAD is refused or names no size.
 * Returns `undefined` if the upstream has the blob and does not name its size.
 * @throws UpstreamError; `invalid` if the answer is a web page or names another digest.
 */
export async function askBlobSize(
  host: string,
  digest: Digest,
  ask: (method: Method, range: string | undefined) => Promise<Reply>,
): Promise<number | undefined> {
  const reply = await ask('HEAD', undefined);
  discard(reply);
  if (reply.status === 200) {
    checkBlobAnswer(reply, digest, host);
    const size = sizeOf(reply);
    // Some registries answer every HEAD with a length of 0.
    if (size !== undefined && (size !== 0 || isOfNothing(digest))) return size;
  } else if (!withoutHead.has(reply.status) && !(reply.redirected && signedForGet.has(reply.status))) {
    throw statusError(host, reply, 'HEAD blob');
  }
  return readSize(await ask('GET', 'bytes=0-0'), digest, host);
}

function readSize(reply: Reply, digest: Digest, host: string): number | undefined {
  discard(reply);
  if (reply.status === 416) return undefined; // no first byte
  if (reply.status !== 200 && reply.status !== 206) throw statusError(host, reply, 'GET blob with a range');
  checkBlobAnswer(reply, digest, host);
  return reply.status === 200 ? sizeOf(reply) : readContentRange(reply.headers['content-range'])?.total;
}
