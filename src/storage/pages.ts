/** The same items in pages of this length, of which only the last may be shorter. */
export async function* inPages<T>(
  parts: AsyncIterable<readonly T[]>,
  length: number,
): AsyncGenerator<readonly T[]> {
  let page: T[] = [];
  for await (const part of parts) {
    for (const item of part) {
      page.push(item);
      if (page.length < length) continue;
      yield page;
      page = [];
    }
  }
  if (page.length > 0) yield page;
}

/** Items that are all there, in pages. */
export function* pagesOf<T>(items: readonly T[], length: number): Generator<readonly T[]> {
  for (let from = 0; from < items.length; from += length) yield items.slice(from, from + length);
}

/** The results of `work` in the order of the items, at most `atOnce` at a time. Starts no more work after an error. */
export async function mapAtOnce<T, R>(
  items: readonly T[],
  atOnce: number,
  signal: AbortSignal | undefined,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const left = items.entries();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (const [index, item] of left) {
      if (failed) return;
      signal?.throwIfAborted();
      try {
        results[index] = await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
