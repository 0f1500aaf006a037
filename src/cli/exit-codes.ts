import type { AdminCode } from '../admin/admin.js';

/** What commands end with (docs/commands.md). */
export const exit = {
  done: 0,
  failed: 1,
  /** The command line or the configuration is wrong. */
  misused: 2,
  /** `verify` has found content that is not sound. */
  unsound: 3,
  /** The same work is under way. */
  busy: 4,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCode = (typeof exit)[keyof typeof exit];

export function exitCodeOf(code: AdminCode): ExitCode {
  if (code === 'invalid') return exit.misused;
  return code === 'busy' ? exit.busy : exit.failed;
}
