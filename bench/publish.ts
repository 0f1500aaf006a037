import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';

const pages = ['README.md', 'docs/benchmarks.md', 'docs/soak.md'];

/** The text with what stands between the marks of that name replaced; `undefined` where it has no such marks. */
export function replaceBlock(text: string, block: string, marks = 'bench'): string | undefined {
  const [begin, end] = [`<!-- ${marks}:begin -->`, `<!-- ${marks}:end -->`];
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) return undefined;
  return `${text.slice(0, from + begin.length)}\n\n${block}\n\n${text.slice(to)}`;
}

/** Puts the block into every page that has a place of that name for it, formatted as the repository is; returns those pages. */
export async function publish(block: string, marks = 'bench'): Promise<string[]> {
  const published: string[] = [];
  for (const page of pages) {
    const path = fileURLToPath(new URL(`../${page}`, import.meta.url));
    const replaced = existsSync(path) ? replaceBlock(readFileSync(path, 'utf8'), block, marks) : undefined;
    if (replaced === undefined) continue;
    writeFileSync(path, await format(replaced, { ...(await resolveConfig(path)), filepath: path }));
    published.push(page);
  }
  return published;
}
