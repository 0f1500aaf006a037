import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Schedule } from '../config/schedule.js';
import { latestSlot, nextSlot } from './slots.js';

const at = (text: string): number => Date.parse(text);
const minutes = (count: number): Schedule => ({ kind: 'every', ms: count * 60_000 });
const cron = (pattern: string): Schedule => ({ kind: 'cron', pattern });

describe('the slots of a schedule', () => {
  it('of an interval stand on the wall clock', () => {
    expect(latestSlot(minutes(10), at('2026-11-21T12:09:59.999Z'))).toBe(at('2026-11-21T12:00:00Z'));
    expect(latestSlot(minutes(10), at('2026-11-21T12:10:00Z'))).toBe(at('2026-11-21T12:10:00Z'));
    expect(nextSlot(minutes(10), at('2026-11-21T12:10:00Z'))).toBe(at('2026-11-21T12:20:00Z'));
  });

  it('of a cron expression are by local time', () => {
    const local = (hour: number, minute: number, ms = 0) =>
      new Date(2026, 10, 21, hour, minute, 0, ms).getTime();
    expect(latestSlot(cron('30 3 * * *'), local(3, 30))).toBe(local(3, 30));
    expect(latestSlot(cron('30 3 * * *'), local(12, 0))).toBe(local(3, 30));
    expect(nextSlot(cron('*/15 * * * *'), local(12, 0))).toBe(local(12, 15));
    expect(nextSlot(cron('*/15 * * * *'), local(12, 14, 999))).toBe(local(12, 15));
  });

  it('never come where it says so', () => {
    expect(latestSlot({ kind: 'never' }, Date.now())).toBeUndefined();
    expect(nextSlot({ kind: 'never' }, Date.now())).toBeUndefined();
  });

  it('are the same for everybody, whenever they look: no time lies between the next one and the one after', () => {
    const schedule = fc.oneof(
      fc.integer({ min: 1, max: 1e9 }).map((ms): Schedule => ({ kind: 'every', ms })),
      fc.constantFrom('*/7 * * * *', '0 3 * * 0', '@monthly', '*/2 * * * * *').map(cron),
    );
    const time = fc.integer({ min: at('2020-01-01T00:00:00Z'), max: at('2040-01-01T00:00:00Z') });
    fc.assert(
      fc.property(schedule, time, (when, now) => {
        const latest = latestSlot(when, now) ?? Number.NaN;
        const next = nextSlot(when, now) ?? Number.NaN;
        expect(latest).toBeLessThanOrEqual(now);
        expect(next).toBeGreaterThan(now);
        expect(latestSlot(when, next - 1)).toBe(latest);
        expect(latestSlot(when, next)).toBe(next);
      }),
    );
  });
});
