import { blobUrl, manifestUrl } from '../lab.js';
import type { Scenario } from '../scenario.js';
import { requestRate } from '../warm-load.js';

export const head: Scenario = {
  name: 'head',
  run: async (lab) => {
    await lab.pushImage('stable');
    const blob = await lab.pushBlob(lab.plan.smallBlob, 'head');
    return [
      ...(await requestRate(lab, 'HEAD manifest by tag', 'HEAD', (mirror) => manifestUrl(mirror, 'stable'))),
      ...(await requestRate(lab, 'HEAD blob', 'HEAD', (mirror) => blobUrl(mirror, blob), blob)),
    ];
  },
};
