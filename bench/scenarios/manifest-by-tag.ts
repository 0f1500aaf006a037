import { manifestUrl } from '../lab.js';
import type { Scenario } from '../scenario.js';
import { requestRate } from '../warm-load.js';

export const manifestByTag: Scenario = {
  name: 'manifest-by-tag',
  run: async (lab) => {
    await lab.pushImage('stable');
    return requestRate(lab, 'GET manifest by tag', 'GET', (mirror) => manifestUrl(mirror, 'stable'));
  },
};
