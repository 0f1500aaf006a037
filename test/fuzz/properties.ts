import * as content from './content.js';
import * as configuration from './configuration.js';
import * as requests from './requests.js';
import * as upstreams from './upstreams.js';

/** What holds for whatever a stranger sends: no crash, no hang, and no escape. */
export interface Fuzzed {
  readonly name: string;
  /** Of a million cases. */
  readonly share: number;
  /** Checks so many cases. Throws with the smallest case that fails, and how to repeat it. */
  check(cases: number, seed: number): void;
}

export const fuzzed: readonly Fuzzed[] = [
  requests.paths,
  requests.ranges,
  requests.passwords,
  upstreams.challenges,
  content.manifests,
  content.imageReferences,
  configuration.configurations,
];
