import type { IncomingHttpHeaders } from 'node:http';
import type { Answer } from './faulty-reply.js';

/**
 * Counts pulls as Docker Hub does: a GET of a manifest is one, HEAD is none; at zero both are refused with 429, also for
 * what is not there. Each user has a limit of their own. A window begins when the test says so.
 */
export class PullLimit {
  /** Manifests given, over all windows. */
  granted = 0;
  /** Requests refused. */
  readonly refused = { GET: 0, HEAD: 0 };
  #used = new Map<string, number>();

  constructor(
    readonly limit: number,
    private readonly windowSeconds: number,
  ) {}

  beginWindow(): void {
    this.#used = new Map();
  }

  /** What becomes of the answer to a request for a manifest. */
  apply(method: string | undefined, { authorization = '' }: IncomingHttpHeaders, answer: Answer): Answer {
    const used = this.#used.get(authorization) ?? 0;
    if (used >= this.limit) {
      this.refused[method === 'HEAD' ? 'HEAD' : 'GET'] += 1;
      const body = Buffer.from('{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}');
      return { status: 429, headers: { 'content-type': 'application/json', ...this.#headers(used) }, body };
    }
    if (answer.status !== 200) return answer;
    const now = method === 'HEAD' ? used : used + 1;
    if (method !== 'HEAD') this.granted += 1;
    this.#used.set(authorization, now);
    return { ...answer, headers: { ...answer.headers, ...this.#headers(now) } };
  }

  #headers(used: number): Record<string, string> {
    return {
      'ratelimit-limit': `${this.limit};w=${this.windowSeconds}`,
      'ratelimit-remaining': `${this.limit - used};w=${this.windowSeconds}`,
    };
  }
}
