import { LRUCache } from 'lru-cache';
import type { Logger } from '../../telemetry/log.js';
import { silenceMs, type PeerError } from './peer-client.js';

/** A replica that could not be reached the last time is not waited for as long as one that could. */
const doubtfulAnswerMs = 500;
const mostFailing = 1_000;

/** Which replicas can be read, as this one found out: what is wrong between two of them is said once. */
export class Neighbours {
  readonly #failing = new LRUCache<string, PeerError['code']>({ max: mostFailing });

  constructor(private readonly log: Logger) {}

  answerMs(url: string): number {
    return this.isFailing(url) ? doubtfulAnswerMs : silenceMs;
  }

  isFailing(url: string): boolean {
    return this.#failing.has(url);
  }

  answered(url: string): void {
    if (!this.#failing.delete(url)) return;
    this.log.info({ replica: url }, 'a replica can be read again');
  }

  failed(error: PeerError): void {
    // Its transfer came to nothing, or is over: nothing is wrong with the way to it.
    if (error.code === 'failed' || error.code === 'gone') return;
    const known = this.#failing.get(error.peer) === error.code;
    this.#failing.set(error.peer, error.code);
    this.log[known ? 'debug' : 'warn']({ replica: error.peer, err: error }, 'a replica cannot be read');
  }
}
