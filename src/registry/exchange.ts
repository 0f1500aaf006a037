import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Outcome } from '../proxy/proxy.js';
import type { HeldAnswers } from './held-answers.js';

/** Registry's names of its handlers, as its metrics have them, and ours for what it lacks. */
export type HandlerName =
  'base' | 'manifest' | 'blob' | 'blob_upload' | 'tags' | 'referrers' | 'catalog' | 'unknown';

/** The client went away before its answer was complete. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
  constructor() {
    super('the client closed the connection');
  }
}

/** An answer from memory or the store, which says of nobody in particular, and in which nothing is about this moment. */
export interface Repeatable {
  /** `undefined`: of HEAD. */
  readonly body: Buffer | undefined;
  /** By `performance.now()`: when what it rests on is to be looked at again. */
  readonly until: number;
}

/** One request and its answer, with what the access line and the metrics say of it. */
export class Exchange {
  readonly started = performance.now();
  handler: HandlerName = 'unknown';
  outcome: Outcome | undefined;
  upstream: string | undefined;
  user: string | undefined;
  traceId: string | undefined;
  /** Bytes of the answer's body. */
  sent = 0;
  failure: unknown;
  /** Set where the same request may get the same answer again. */
  repeatable: Repeatable | undefined;
  #controller: AbortController | undefined;

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly id: string,
    private readonly heldAnswers: HeldAnswers,
  ) {}

  get isHead(): boolean {
    return this.request.method === 'HEAD';
  }

  /** Counts the memory of the answer until the client has read it or has left. `false`: there is no room for it. */
  hold(answer: Buffer): boolean {
    if (this.response.closed) return true;
    const release = this.heldAnswers.take(this.request, answer);
    if (release !== undefined) this.response.once('close', release);
    return release !== undefined;
  }

  /** Aborts when the client leaves. Made on demand: an answer from memory needs none. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      if (this.response.destroyed) controller.abort(new ClientGone());
      this.response.once('close', () => {
        if (!this.response.writableFinished) controller.abort(new ClientGone());
      });
    }
    return this.#controller.signal;
  }
}
