import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';

const begin = '<!-- bench:begin -->';
const end = '<!-- bench:end -->';

/** The text with what stands between the marks replaced; `undefined` where it has no such marks. */
export function replaceBlock(text: string, block: string): string | undefined {
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) return undefined;
  return `${text.slice(0, from + begin.length)}\n\n${block}\n\n${text.slice(to)}`;
}

/** Puts a block into a page of the repository, between its marks, formatted as the repository is. */
export async function publish(page: string, block: string): Promise<void> {
  const path = fileURLToPath(new URL(`../${page}`, import.meta.url));
  const replaced = replaceBlock(readFileSync(path, 'utf8'), block);
  if (replaced === undefined) throw new Error(`${page} has no place between ${begin} and ${end}`);
  writeFileSync(path, await format(replaced, { ...(await resolveConfig(path)), filepath: path }));
}
