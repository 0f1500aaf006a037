import { ByteBudget } from './byte-budget.js';

const MiB = 1024 * 1024;

/** Bodies that this process reads as a whole: manifests, lists, tokens, kept lists. A source is an upstream, or the store. */
export const wholeBodies = new ByteBudget(64 * MiB, 2_000);

/** The source of what is read from the store. */
export const storeSource = 'store';
