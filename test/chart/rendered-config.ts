import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type LoadedConfig, loadConfig } from '../../src/config/load.js';
import { temporaryFolder } from '../parts/folder.js';
import type { KubernetesObject } from './helm.js';

/** Loads the config.yml of the ConfigMap, with the files that it names in a folder in the place of /. */
export async function loadRendered(objects: readonly KubernetesObject[]): Promise<LoadedConfig> {
  const object = objects.find(
    ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'mirror-cistern',
  );
  const text = (object as { data?: Record<string, string> } | undefined)?.data?.['config.yml'];
  if (text === undefined) throw new Error('there is no config.yml');
  await using folder = await temporaryFolder();
  const files = new Set(text.match(/\/run\/secrets\/[\w./-]+/g));
  for (const file of files) {
    const path = join(folder.path, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, 'a secret');
  }
  const path = join(folder.path, 'config.yml');
  await writeFile(path, text.replaceAll('/run/secrets/', `${folder.path}/run/secrets/`));
  return loadConfig({ path, env: { POD_IP: '10.0.0.7' }, cwd: folder.path });
}
