import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { type Output, runProcess } from './process.js';

export interface Copied extends Output {
  /** Of the folder that the image was copied to, gone after the callback. */
  readonly folder: string;
}

/**
 * Copies an image (`127.0.0.1:5000/team/app:v1`) out of a registry into a folder, as podman and CRI-O would pull it.
 * `look` may look at the folder before it goes.
 */
export async function skopeoCopy(
  image: string,
  args: readonly string[] = [],
  look: (copied: Copied) => void | Promise<void> = () => {},
): Promise<Output> {
  await using folder = await temporaryFolder();
  const target = join(folder.path, 'image');
  const output = await skopeo([
    'copy',
    '--src-tls-verify=false',
    ...args,
    `docker://${image}`,
    `dir:${target}`,
  ]);
  await look({ ...output, folder: target });
  return output;
}

/** Any skopeo command, with a configuration of its own: no mirrors, no short names, no credentials of this machine. */
export async function skopeo(args: readonly string[]): Promise<Output> {
  await using home = await temporaryFolder();
  const registries = join(home.path, 'registries.conf');
  await writeFile(registries, '');
  return await runProcess(commandOf('skopeo'), ['--insecure-policy', `--tmpdir=${home.path}`, ...args], {
    env: { HOME: home.path, XDG_RUNTIME_DIR: home.path, CONTAINERS_REGISTRIES_CONF: registries },
  });
}
