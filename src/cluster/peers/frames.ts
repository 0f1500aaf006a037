/**
 * What goes over a peer stream: frames of one byte type, four bytes length, payload. Data frames hold the spool's
 * bytes in order; message frames a line of JSON and its seal.
 */
export const dataFrame = 1;
export const messageFrame = 2;
export const longestFrame = 1024 * 1024;
const headBytes = 5;
export const longestMessage = 4096;
/** The longest form of a character in JSON, in bytes: `\u0000`. */
const mostBytesOfCharacter = 6;

/** Sent at once and every second: the writer lives, and this is how far it is. */
export interface PeerProgress {
  readonly kind: 'alive';
  /** Bytes in its spool. */
  readonly length: number;
  readonly size: number | undefined;
  /** Repositories, as the store names them, whose upstream gave or confirmed the blob; none before the first did. */
  readonly repositories: readonly string[];
}

/** There will be no more. */
export interface PeerFailure {
  readonly kind: 'failed';
  readonly reason: string;
  /** What the upstream said (a code of UpstreamError), and for which repository, where it was the upstream. */
  readonly code?: string;
  readonly repository?: string;
}

export type PeerMessage =
  | PeerProgress
  | PeerFailure
  /** All bytes were sent, and are right. */
  | { readonly kind: 'complete'; readonly size: number };

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

export function frameHead(type: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(headBytes);
  head.writeUInt8(type, 0);
  head.writeUInt32BE(length, 1);
  return head;
}

/**
 * A message as JSON of at most `room` bytes. Omits repositories that do not fit: for a repository that no message
 * names, the reader confirms the size with its upstream. Cuts the reason of a failure if it does not fit.
 */
export function formatMessage(message: PeerMessage, room: number): string {
  const text = JSON.stringify(message);
  if (Buffer.byteLength(text) <= room || message.kind === 'complete') return text;
  if (message.kind === 'alive') return JSON.stringify(withFewer(message, room));
  const left = room - Buffer.byteLength(JSON.stringify({ ...message, reason: '' }));
  const reason = message.reason.slice(0, Math.max(0, Math.floor(left / mostBytesOfCharacter)));
  return JSON.stringify({ ...message, reason });
}

function withFewer(message: PeerProgress, room: number): PeerProgress {
  let left = room - Buffer.byteLength(JSON.stringify({ ...message, repositories: [] }));
  const repositories = message.repositories.filter((repository) => {
    left -= Buffer.byteLength(JSON.stringify(repository)) + 1;
    return left >= 0;
  });
  return { ...message, repositories };
}

export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/**
 * Reads a message. The seal does not prove its form: a replica of another version may have sent it.
 *
 * @throws FrameError
 */
export function parseMessage(text: string): PeerMessage {
  const message = parseFields(text);
  if (!isMessage(message)) throw new FrameError('a message of an unknown form');
  return message as unknown as PeerMessage;
}

type Fields = Readonly<Record<string, unknown>>;

function parseFields(text: string): Fields {
  try {
    return Object(JSON.parse(text)) as Fields;
  } catch {
    throw new FrameError('a message that is no JSON');
  }
}

function isMessage({ kind, length, size, repositories, reason, code, repository }: Fields): boolean {
  if (kind === 'complete') return isCount(size);
  if (kind === 'failed') return isText(reason) && isTextOrAbsent(code) && isTextOrAbsent(repository);
  return (
    kind === 'alive' &&
    isCount(length) &&
    (size === undefined || isCount(size)) &&
    Array.isArray(repositories) &&
    repositories.every(isText)
  );
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

function isTextOrAbsent(value: unknown): boolean {
  return value === undefined || isText(value);
}

/**
 * Cuts a byte stream into frames. Data is passed on as it arrives, in pieces, so that nobody waits for the end of a
 * large frame; a message comes whole.
 */
export class FrameReader {
  #buffered: Buffer = Buffer.alloc(0);
  #dataLeft = 0;

  *push(chunk: Buffer): Generator<Frame> {
    let rest = this.#buffered.byteLength === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    for (;;) {
      if (this.#dataLeft > 0) {
        const payload = rest.subarray(0, this.#dataLeft);
        if (payload.byteLength === 0) break;
        this.#dataLeft -= payload.byteLength;
        rest = rest.subarray(payload.byteLength);
        yield { type: dataFrame, payload };
        continue;
      }
      if (rest.byteLength < headBytes) break;
      const type = rest.readUInt8(0);
      const length = rest.readUInt32BE(1);
      if (type === dataFrame && length <= longestFrame) {
        this.#dataLeft = length;
        rest = rest.subarray(headBytes);
      } else if (type === messageFrame && length <= longestMessage) {
        if (rest.byteLength < headBytes + length) break;
        yield { type, payload: rest.subarray(headBytes, headBytes + length) };
        rest = rest.subarray(headBytes + length);
      } else throw new FrameError(`a frame of type ${type} and ${length} bytes`);
    }
    this.#buffered = Buffer.from(rest);
  }
}
