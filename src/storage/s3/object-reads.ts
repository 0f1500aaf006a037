import type { RequestedRange } from '../../oci/range.js';
import type { OpenBlob } from '../storage.js';
import { storageError } from './errors.js';
import { markName } from './looks.js';
import { parseContentRange, rangeHeader } from './object-body.js';
import { ConnectionError, ObjectConnection, type Endpoint } from './object-connection.js';
import { bodyLength, type ResponseHead } from './response-head.js';
import type { SignedAddresses } from './signed-addresses.js';

/** So many unused connections are kept. */
const mostKept = 64;
const longestErrorBody = 64 * 1024;

/** How connections over TLS are checked. */
export type TlsOptions = NonNullable<Endpoint['tls']>;

interface Reply {
  readonly connection: ObjectConnection;
  readonly head: ResponseHead;
}

/**
 * Reads objects by their signed addresses over connections of its own. It takes what is there, and knows what is
 * absent; any other answer it leaves to the SDK, which knows all of them, sets its clock right and tries again.
 */
export class ObjectReads {
  readonly #kept: ObjectConnection[] = [];
  #closed = false;

  constructor(
    private readonly addresses: SignedAddresses,
    private readonly tls: TlsOptions,
    private readonly userAgent: string,
  ) {}

  /** `'unclear'`: the SDK is to be asked. Throws StorageError where the server is silent. */
  async open(key: string, range: RequestedRange | undefined): Promise<OpenBlob | 'unclear' | undefined> {
    const url = new URL((await this.addresses.get(key)).url);
    try {
      const { connection, head } = await this.#get(url, range);
      if (head.status === 404 && (await this.#saysAbsent(connection, head))) return undefined;
      if (head.headers.get(`x-amz-meta-${markName}`) === 'rotten') {
        connection.close();
        return undefined;
      }
      const found = foundBy(head);
      if (found !== undefined) return { ...found, ...this.#bodyOf(connection, key) };
      connection.close();
      this.addresses.forget(key);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      if (error.code === 'silent') throw storageError(error, `opening ${key}`);
    }
    return 'unclear';
  }

  close(): void {
    this.#closed = true;
    for (const connection of this.#kept.splice(0)) connection.close();
  }

  /** On a connection that was kept, where there is one; on a new one where that was closed meanwhile. */
  async #get(url: URL, range: RequestedRange | undefined): Promise<Reply> {
    for (let kept = this.#takeKept(); kept !== undefined; kept = undefined) {
      try {
        return { connection: kept, head: await kept.get(pathOf(url), this.#headers(url, range)) };
      } catch (error) {
        kept.close();
        if (!(error instanceof ConnectionError) || error.code !== 'stale') throw error;
      }
    }
    const fresh = new ObjectConnection(this.#endpoint(url));
    try {
      return { connection: fresh, head: await fresh.get(pathOf(url), this.#headers(url, range)) };
    } catch (error) {
      fresh.close();
      throw error;
    }
  }

  #headers({ host }: URL, range: RequestedRange | undefined): Record<string, string> {
    return {
      Host: host,
      'User-Agent': this.userAgent,
      ...(range === undefined ? {} : { Range: rangeHeader(range) }),
    };
  }

  #endpoint({ protocol, hostname, port }: URL): Endpoint {
    const isTls = protocol === 'https:';
    return {
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port) || (isTls ? 443 : 80),
      tls: isTls ? this.tls : undefined,
    };
  }

  /** All are to the same place: a bucket has one. */
  #takeKept(): ObjectConnection | undefined {
    for (let kept = this.#kept.pop(); kept !== undefined; kept = this.#kept.pop()) {
      if (kept.isFree) return kept;
    }
    return undefined;
  }

  #release(connection: ObjectConnection): void {
    if (connection.isFree && !this.#closed && this.#kept.length < mostKept) this.#kept.push(connection);
    else connection.close();
  }

  #bodyOf(connection: ObjectConnection, key: string): Pick<OpenBlob, 'body' | 'close'> {
    let isOpen = true;
    const release = (): void => {
      if (isOpen) this.#release(connection);
      isOpen = false;
    };
    return {
      body: readBody(connection, key, release),
      close: () => Promise.resolve(release()),
    };
  }

  /** A bucket that is not there is trouble. */
  async #saysAbsent(connection: ObjectConnection, head: ResponseHead): Promise<boolean> {
    if (sizeOf(head) > longestErrorBody) return false;
    const isAbsent = (await readWhole(connection)).includes('<Code>NoSuchKey</Code>');
    if (isAbsent) this.#release(connection);
    return isAbsent;
  }
}

/** `undefined`: no bytes of the object follow. */
function foundBy(head: ResponseHead): Pick<OpenBlob, 'size' | 'range'> | undefined {
  if (head.status === 200) return { size: sizeOf(head), range: undefined };
  return head.status === 206 ? parseContentRange(head.headers.get('content-range')) : undefined;
}

/** Of the body; a head without it is not taken. */
function sizeOf(head: ResponseHead): number {
  return bodyLength(head) ?? 0;
}

async function* readBody(
  connection: ObjectConnection,
  key: string,
  release: () => void,
): AsyncGenerator<Uint8Array> {
  try {
    for (let chunk = await connection.read(); chunk !== undefined; chunk = await connection.read())
      yield chunk;
  } catch (error) {
    throw storageError(error, `reading ${key}`);
  } finally {
    release();
  }
}

async function readWhole(connection: ObjectConnection): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let chunk = await connection.read(); chunk !== undefined; chunk = await connection.read()) {
    chunks.push(Buffer.from(chunk)); // its memory is used again
  }
  return Buffer.concat(chunks);
}

function pathOf({ pathname, search }: URL): string {
  return pathname + search;
}
