import type { RepeatedAnswer } from './access.js';

/** Of a body; larger ones cost so much to send that the rest does not matter. */
export const longestReady = 128 * 1024;
const mostBytes = 16 * 1024 * 1024;
const overhead = 512;
const seenMs = 10_000;
const mostSeen = 1_000;

/** An answer as it goes out, but for what differs each time: the request's id and the time. */
export interface ReadyAnswer {
  /** The head until the request's id. */
  readonly before: string;
  /** The head from there on, as far as it is about the content. */
  readonly after: string;
  /** `undefined`: of HEAD. */
  readonly body: Buffer | undefined;
  /** Until when, by `performance.now()`, the handler would answer the same. */
  readonly until: number;
  readonly repeated: RepeatedAnswer;
}

/**
 * Answers to requests that came before, byte for byte the same. They live so shortly that nothing has to be told of
 * changes: each is made anew by the handler once in its lifetime.
 */
export class ReadyAnswers {
  /** By the bytes of the request, the oldest first. */
  readonly #answers = new Map<string, ReadyAnswer>();
  #bytes = 0;
  /** Requests that came lately, and may come again. */
  readonly #seen = new Set<string>();
  #seenSince = 0;

  find(request: string, now: number): ReadyAnswer | undefined {
    const answer = this.#answers.get(request);
    return answer === undefined || answer.until <= now ? undefined : answer;
  }

  /** Whether a request is worth an answer to be kept: it came not long ago. */
  isRepeated(request: string, now: number): boolean {
    if (this.#answers.has(request)) return true;
    if (now - this.#seenSince > seenMs || this.#seen.size >= mostSeen) {
      this.#seen.clear();
      this.#seenSince = now;
    }
    if (this.#seen.has(request)) return true;
    this.#seen.add(request);
    return false;
  }

  put(request: string, answer: ReadyAnswer, now: number): void {
    this.#remove(request);
    this.#answers.set(request, answer);
    this.#bytes += weightOf(request, answer);
    for (const [oldest, { until }] of this.#answers) {
      if (until > now && this.#bytes <= mostBytes) break;
      this.#remove(oldest);
    }
  }

  clear(): void {
    this.#answers.clear();
    this.#bytes = 0;
  }

  /** What they take, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  #remove(request: string): void {
    const answer = this.#answers.get(request);
    if (answer === undefined) return;
    this.#answers.delete(request);
    this.#bytes -= weightOf(request, answer);
  }
}

function weightOf(request: string, { before, after, body }: ReadyAnswer): number {
  return request.length + before.length + after.length + (body?.byteLength ?? 0) + overhead;
}
