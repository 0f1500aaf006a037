import { blobUrl } from '../lab.js';
import { sizeText } from '../plan.js';
import type { Scenario } from '../scenario.js';
import { requestRate } from '../warm-load.js';

export const smallBlob: Scenario = {
  name: 'small-blob',
  run: async (lab) => {
    const blob = await lab.pushBlob(lab.plan.smallBlob, 'small');
    return requestRate(
      lab,
      `GET ${sizeText(blob.size)} blob`,
      'GET',
      (mirror) => blobUrl(mirror, blob),
      blob,
    );
  },
};
