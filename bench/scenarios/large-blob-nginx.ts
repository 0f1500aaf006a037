import { join } from 'node:path';
import { has } from '../../test/parts/debian.js';
import { startNginx } from '../../test/parts/nginx.js';
import { say } from '../command.js';
import { blobUrl } from '../lab.js';
import { loadGet } from '../load.js';
import { sizeText } from '../plan.js';
import { byTurns, measureOf, type Scenario, type Side } from '../scenario.js';

/** As in `large-blob`. */
const connections = 4;

/** The same file by a server that does nothing but send it. */
export const largeBlobNginx: Scenario = {
  name: 'large-blob-nginx',
  run: async (lab) => {
    if (!has('nginx')) {
      say('nginx is not installed: not compared with it');
      return [];
    }
    const { plan, signal, upstream } = lab;
    const blob = await lab.pushBlob(plan.largeBlob, 'nginx');
    const hex = blob.digest.slice('sha256:'.length);
    const file = `docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`;
    const files = `root ${upstream.root}; sendfile on; tcp_nopush on;`;
    await using nginx = await startNginx(join(upstream.root, '..', 'nginx'), files);
    await using mirror = await lab.startMirror('cistern', upstream.url);
    await lab.pullBlob(mirror, blob);
    const urls: Record<Side, string> = { peer: `${nginx.url}/${file}`, cistern: blobUrl(mirror, blob) };
    for (const url of Object.values(urls)) {
      await loadGet(url, { seconds: plan.warmUpSeconds, connections }, signal);
    }
    await lab.settleDisk();
    const results = await byTurns(plan.rounds, (side) =>
      loadGet(urls[side], { seconds: plan.seconds, connections }, signal),
    );
    const title = `GET ${sizeText(blob.size)} blob, cached, ${connections} connections; nginx with sendfile in registry’s place`;
    const megabytes = ({ bytesPerSecond = 0 }) => bytesPerSecond / 1_000_000;
    return [measureOf({ title, unit: 'MB/s', better: 'more' }, results, megabytes)];
  },
};
