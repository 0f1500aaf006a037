import type { Schedule } from '../config/schedule.js';
import type { JobState } from '../scheduler/scheduler.js';
import type { ListedJob } from './admin.js';

export function listedJob({ name, schedule, nextMs, run }: JobState): ListedJob {
  return {
    name,
    schedule: scheduleText(schedule),
    next: isoTime(nextMs),
    run: run && {
      outcome: run.outcome,
      runner: run.runner,
      began: new Date(run.beganMs).toISOString(),
      ended: isoTime(run.endedMs),
      summary: run.summary,
      error: run.error,
      problems: (run.problems?.count ?? 0) > 0 ? run.problems : undefined,
      progress: run.outcome === 'running' ? run.progress : undefined,
    },
  };
}

function isoTime(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}

const steps = [
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const;

/** As it may stand in the configuration. */
export function scheduleText(schedule: Schedule): string {
  if (schedule.kind === 'never') return 'never';
  if (schedule.kind === 'cron') return schedule.pattern;
  let rest = schedule.ms;
  let text = '';
  for (const [unit, ms] of steps) {
    const count = Math.floor(rest / ms);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * ms;
  }
  return text;
}
