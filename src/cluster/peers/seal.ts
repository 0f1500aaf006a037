import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Proves one replica to another by their common secret, without telling it. A request is bound to the attempt, the
 * digest, the offset and a nonce that the server takes once in the attempt's life: a copy of it opens nothing, and
 * no clock is needed. What the server says beside the bytes is bound to the same nonce.
 */
export class Seal {
  readonly #key: Buffer;

  constructor(secret: string) {
    this.#key = createHmac('sha256', 'cistern peers').update(secret).digest();
  }

  newNonce(): string {
    return randomBytes(16).toString('hex');
  }

  request(parts: RequestParts): string {
    return this.#mac(`request\n${parts.attempt}\n${parts.digest}\n${parts.offset}\n${parts.nonce}`);
  }

  isRequest(parts: RequestParts, mac: string): boolean {
    return equal(this.request(parts), mac);
  }

  message(nonce: string, sequence: number, text: string): string {
    return this.#mac(`message\n${nonce}\n${sequence}\n${text}`);
  }

  isMessage(nonce: string, sequence: number, text: string, mac: string): boolean {
    return equal(this.message(nonce, sequence, text), mac);
  }

  #mac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('hex');
  }
}

export interface RequestParts {
  readonly attempt: string;
  readonly digest: string;
  readonly offset: number;
  readonly nonce: string;
}

function equal(expected: string, given: string): boolean {
  const a = Buffer.from(expected);
  const b = Buffer.from(given);
  return a.byteLength === b.byteLength && timingSafeEqual(a, b);
}
