/** How much is measured. Sizes in bytes. */
export interface Plan {
  /** Each server has its turn this often. */
  readonly rounds: number;
  /** Of load in a turn. */
  readonly seconds: number;
  /** Of load on each server before the first turn, not counted: caches fill and code is compiled. */
  readonly warmUpSeconds: number;
  /** Connections of the load generators. */
  readonly connections: number;
  readonly smallBlob: number;
  readonly largeBlob: number;
  /** Of the link that a site has to its upstream, in bytes per second. */
  readonly siteLink: number;
  /** Registry's turn takes, for each client, what one download takes. */
  readonly herdBlob: number;
  readonly herdClients: number;
  /** Of the link between the upstream and the mirror, in bytes per second. */
  readonly herdLink: number;
  /** Of each connection to an upstream that limits them, in bytes per second. */
  readonly connectionRate: number;
  /** To such an upstream at a time. */
  readonly rangeConnections: number;
  readonly rangesBlob: number;
}

const MiB = 1024 * 1024;

export const fullPlan: Plan = {
  rounds: 5,
  seconds: 3,
  warmUpSeconds: 2,
  connections: 16,
  smallBlob: 64 * 1024,
  largeBlob: 256 * MiB,
  siteLink: 125_000_000,
  herdBlob: 16 * MiB,
  herdClients: 24,
  herdLink: 10_000_000,
  connectionRate: 10_000_000,
  rangeConnections: 4,
  rangesBlob: 128 * MiB,
};

/** Shows that the benchmark works; its figures mean little. */
export const quickPlan: Plan = {
  ...fullPlan,
  rounds: 2,
  seconds: 1,
  warmUpSeconds: 1,
  largeBlob: 32 * MiB,
  herdBlob: 4 * MiB,
  herdLink: 100_000_000,
  rangesBlob: 32 * MiB,
};

/** One turn of each build on fresh processes, which is then measured again and again. */
export const buildPlan: Plan = { ...fullPlan, rounds: 1, seconds: 2 };

export const quickBuildPlan: Plan = { ...quickPlan, rounds: 1 };

/** Long enough for a profile of the one process that is looked at. */
export const profilePlan: Plan = { ...fullPlan, rounds: 3 };

/** `256 MiB`, `64 KiB`. */
export function sizeText(bytes: number): string {
  return bytes % MiB === 0 ? `${bytes / MiB} MiB` : `${bytes / 1024} KiB`;
}
