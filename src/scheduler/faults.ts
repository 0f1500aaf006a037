import type { JobName } from './job.js';

/** Another replica has taken what this one held: it had slept, or could not be reached. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
  readonly code = 'lease-lost';
  constructor(readonly key: string) {
    super(`another replica does ${key} now`);
  }
}

/** The job is being done already. */
export class JobBusy extends Error {
  override readonly name = 'JobBusy';
  readonly code = 'job-busy';
  constructor(
    readonly job: JobName,
    /** Who does it, where that is known. */
    readonly runner: string | undefined,
  ) {
    super(`${job} is being done already${runner === undefined ? '' : ` by ${runner}`}`);
  }
}

/** This process stops; another replica goes on. */
export class Stopping extends Error {
  override readonly name = 'Stopping';
  readonly code = 'stopping';
  constructor() {
    super('this replica stops');
  }
}
