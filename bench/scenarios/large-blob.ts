import { blobUrl } from '../lab.js';
import { sizeText } from '../plan.js';
import { measureOf, type Scenario } from '../scenario.js';
import { warmLoad } from '../warm-load.js';

/** Few enough that each of them moves. */
const connections = 4;

export const largeBlob: Scenario = {
  name: 'large-blob',
  run: async (lab) => {
    const blob = await lab.pushBlob(lab.plan.largeBlob, 'large');
    const results = await warmLoad(lab, 'GET', (mirror) => blobUrl(mirror, blob), blob, connections);
    const title = `GET ${sizeText(blob.size)} blob, cached, ${connections} connections`;
    return [
      measureOf(
        { title, unit: 'MB/s', better: 'more' },
        results,
        ({ bytesPerSecond = 0 }) => bytesPerSecond / 1_000_000,
      ),
      measureOf(
        { title: `${title}: processor time of each GB`, unit: 'ms', better: 'less', detail: true },
        results,
        ({ processorSeconds, bytes = 0 }) => (processorSeconds * 1000) / (bytes / 1_000_000_000),
      ),
    ];
  },
};
