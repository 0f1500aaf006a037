import type { Coordinator, Lease, WorkState } from '../cluster.js';

/** Without Redis: this process leads whatever it does. Equal work within it is joined by those who do it. */
export class LocalCoordinator implements Coordinator {
  tryLead(): Promise<Lease> {
    return Promise.resolve(processLease);
  }

  leader(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  spools(): Promise<readonly []> {
    return Promise.resolve([]);
  }

  announceSpool(): void {
    // Nobody to tell.
  }

  withdrawSpool(): void {
    // Nobody was told.
  }

  state(): Promise<WorkState> {
    return Promise.resolve('unknown');
  }
}

/** A lease that nobody else knows of. */
export const processLease: Lease = {
  scope: 'process',
  doubtful: false,
  confirm: () => Promise.resolve(true),
  publish: () => Promise.resolve(),
  release: () => Promise.resolve(),
};
