import { CannotMeasure } from './command.js';
import type { Scenario } from './scenario.js';
import { coldPull } from './scenarios/cold-pull.js';
import { halfLoad } from './scenarios/half-load.js';
import { head } from './scenarios/head.js';
import { herd } from './scenarios/herd.js';
import { imagePull } from './scenarios/image-pull.js';
import { largeBlobNginx } from './scenarios/large-blob-nginx.js';
import { largeBlob } from './scenarios/large-blob.js';
import { manifestByDigest } from './scenarios/manifest-by-digest.js';
import { manifestByTag } from './scenarios/manifest-by-tag.js';
import { parallelRanges } from './scenarios/parallel-ranges.js';
import { residentMemory } from './scenarios/resident-memory.js';
import { smallBlob } from './scenarios/small-blob.js';

/** In the order of the table's rows. */
const scenarios: readonly Scenario[] = [
  manifestByTag,
  manifestByDigest,
  head,
  smallBlob,
  largeBlob,
  largeBlobNginx,
  halfLoad,
  coldPull,
  imagePull,
  herd,
  parallelRanges,
  residentMemory,
];

/** What they start besides Cistern. */
export const scenarioParts = ['docker-registry', 'wrk', 'hey', 'openssl', 'skopeo'] as const;

export const scenarioNames: readonly string[] = scenarios.map(({ name }) => name);

/** All, where none is named. */
export function scenariosNamed(names: readonly string[] | undefined): readonly Scenario[] {
  if (names === undefined) return scenarios;
  return names.map((name) => {
    const found = scenarios.find((scenario) => scenario.name === name);
    if (found !== undefined) return found;
    throw new CannotMeasure(`there is no scenario ${name}; there are: ${scenarioNames.join(', ')}`);
  });
}
