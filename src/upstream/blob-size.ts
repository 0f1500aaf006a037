import type { Digest } from '../oci/digest.js';
import { readContentRange } from './content-range.js';
import { checkBlobAnswer, isOfNothing, sizeOf } from './content-headers.js';
import { statusError } from './status.js';
import { discard, type Method, type Reply } from './transport.js';

/** Answers that say that HEAD is not served here, and nothing about the content. */
export const withoutHead: ReadonlySet<number> = new Set([405, 501]);
/** What a storage may answer to HEAD at an address that the registry has signed for GET. */
const signedForGet: ReadonlySet<number> = new Set([400, 403]);

/**
 * The size that an upstream says a blob has; `undefined`: the upstream has the blob and does not say its size. Asks by
 * HEAD, and by a GET of one byte where HEAD is refused or says no size.
 * @throws UpstreamError; `invalid` where the answer is a web page or names another digest.
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
    // Some registries say 0 to every HEAD.
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
