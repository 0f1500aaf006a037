import { manifestUrl } from '../lab.js';
import type { Scenario } from '../scenario.js';
import { requestRate } from '../warm-load.js';

export const manifestByDigest: Scenario = {
  name: 'manifest-by-digest',
  run: async (lab) => {
    const { manifest } = await lab.pushImage('by-digest');
    return requestRate(lab, 'GET manifest by digest', 'GET', (mirror) =>
      manifestUrl(mirror, manifest.digest),
    );
  },
};
