import type { Check } from './check.js';

/** Signatures of S3 are refused beyond a quarter of an hour; certificates and tokens sooner. */
const tolerableMs = 5_000;
const badMs = 60_000;

/** What others said that the time is. */
export class Clocks {
  readonly #seen: { readonly who: string; readonly aheadMs: number }[] = [];

  /** `accuracyMs`: how finely that clock tells. */
  note(who: string, theirMs: number, accuracyMs: number): void {
    if (Number.isNaN(theirMs)) return;
    const difference = Date.now() - theirMs;
    const aheadMs = Math.abs(difference) <= accuracyMs ? 0 : difference;
    this.#seen.push({ who, aheadMs });
  }

  /** The header `Date` of an answer (RFC 9110, section 6.6.1). */
  noteDate(who: string, date: unknown): void {
    if (typeof date === 'string') this.note(who, Date.parse(date), 2_000);
  }

  /** To be run when all others have seen what they see. */
  check(): Check {
    return {
      name: 'clock',
      run: (tell) => {
        const seen = this.#seen.toSorted((one, other) => (one.who < other.who ? -1 : 1));
        const off = seen.filter(({ aheadMs }) => Math.abs(aheadMs) > tolerableMs);
        if (seen.length === 0) {
          tell.ok('nobody could be asked for another');
        } else if (off.length === 0) {
          tell.ok(`agrees with ${seen.map(({ who }) => who).join(', ')}`);
        }
        for (const { who, aheadMs } of off) {
          const how = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? 'ahead of' : 'behind'} that of ${who}`;
          // When most of the others are off, it is this one that is.
          const advice =
            off.length * 2 > seen.length
              ? 'set the clock of this machine (NTP)'
              : `set the clock of ${who}: most others agree with this one`;
          tell[Math.abs(aheadMs) > badMs ? 'fail' : 'warn'](`the clock here is ${how}`, advice);
        }
        return Promise.resolve();
      },
    };
  }
}
