import { Cron } from 'croner';
import { cronOptions, type Schedule } from '../config/schedule.js';

/** The last time that a job was due, now or before; in milliseconds since 1970. `undefined`: it never was. */
export function latestSlot(schedule: Schedule, nowMs: number): number | undefined {
  switch (schedule.kind) {
    case 'never':
      return undefined;
    case 'every':
      return nowMs - (nowMs % schedule.ms);
    case 'cron':
      return cron(schedule.pattern)
        .previousRuns(1, new Date(nowMs + 1))[0]
        ?.getTime();
  }
}

/** The next time that a job is due, after now. `undefined`: never. */
export function nextSlot(schedule: Schedule, nowMs: number): number | undefined {
  switch (schedule.kind) {
    case 'never':
      return undefined;
    case 'every':
      return nowMs - (nowMs % schedule.ms) + schedule.ms;
    case 'cron':
      return cron(schedule.pattern).nextRun(new Date(nowMs))?.getTime();
  }
}

function cron(pattern: string): Cron {
  return new Cron(pattern, cronOptions);
}
