import { parseRepository, type Repository } from '../oci/name.js';

/** How a store shows the tree of its repositories. */
export interface RepositoryTree {
  /** Names directly below a path in the tree, which is empty or ends in a slash. */
  names(below: string): Promise<string[]>;
  holdsManifest(repository: Repository): Promise<boolean>;
}

/** Repositories that hold a manifest, sorted, those after `after`, at most `limit` of them. */
export async function walkRepositories(
  tree: RepositoryTree,
  after: string | undefined,
  limit: number,
): Promise<Repository[]> {
  const found: Repository[] = [];
  await walk(tree, '', after, limit, found);
  return found;
}

/** Depth first in the order of names, entering only folders that can still hold something after `after`. */
async function walk(
  tree: RepositoryTree,
  prefix: string,
  after: string | undefined,
  limit: number,
  found: Repository[],
): Promise<void> {
  // A folder's own name sorts before what is in it, but "a-b" sorts between "a" and "a/b".
  const names = (await tree.names(prefix))
    .flatMap((name) =>
      name.startsWith('_')
        ? []
        : [
            { key: `${prefix}${name}`, folder: false },
            { key: `${prefix}${name}/`, folder: true },
          ],
    )
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  for (const { key, folder } of names) {
    if (found.length >= limit) return;
    if (folder) {
      if (after === undefined || key > after || after.startsWith(key)) {
        await walk(tree, key, after, limit, found);
      }
      continue;
    }
    const repository = parseRepository(key);
    if (repository === undefined || (after !== undefined && repository <= after)) continue;
    if (await tree.holdsManifest(repository)) found.push(repository);
  }
}
