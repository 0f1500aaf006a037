import { SharedFlight } from '../async/single-flight.js';
import { Turns } from '../async/turns.js';
import type { Repository } from '../oci/name.js';
import { readList, readPart, type Part, type RecordedList } from './repository-records.js';
import type { RecordStore } from './storage.js';

/** Looks for repositories by listing folders: sorted, those after `after`, at most `limit`. */
export type Walk = (
  after: string | undefined,
  limit: number,
  signal: AbortSignal,
) => Promise<readonly Repository[]>;

/**
 * Lists repositories from the records that jobs write, in a few reads however many there are. Where no job has written
 * them yet, it walks through the folders: one walk at a time. Callers that want the same at the same time share one
 * reading, which stops when the last of them leaves.
 */
export class RepositoryList {
  readonly #lists = new SharedFlight<RecordedList | undefined>();
  readonly #parts = new SharedFlight<readonly Repository[] | undefined>();
  readonly #walks = new SharedFlight<readonly Repository[]>();
  readonly #turns = new Turns();

  constructor(
    private readonly records: RecordStore,
    private readonly walk: Walk,
  ) {}

  /** Sorted names after `after`, in pages. `limit` is the length of a page of a walk. */
  async *pages(
    after: string | undefined,
    limit: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Repository[]> {
    const list = await this.#lists.join('', () => readList(this.records), signal);
    let last = after;
    for (const range of list === undefined ? [] : rangesAfter(list, after)) {
      const recorded = range.part === undefined ? [] : await this.#read(range.part, signal);
      if (recorded === undefined) {
        yield* this.#walkFrom(last, limit, signal);
        return;
      }
      const names = [...new Set([...recorded, ...range.added])].sort();
      const page = after === undefined ? names : names.filter((name) => name > after);
      yield page;
      last = page.at(-1) ?? last;
    }
    if (list === undefined) yield* this.#walkFrom(after, limit, signal);
  }

  #read(part: Part, signal: AbortSignal): Promise<readonly Repository[] | undefined> {
    return this.#parts.join(part.key, () => readPart(this.records, part), signal);
  }

  async *#walkFrom(
    after: string | undefined,
    limit: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Repository[]> {
    for (let last = after; ;) {
      const page = await this.#walkOnce(last, limit, signal);
      yield page;
      last = page.at(-1);
      if (page.length < limit) return;
    }
  }

  #walkOnce(after: string | undefined, limit: number, signal: AbortSignal): Promise<readonly Repository[]> {
    const work = async (shared: AbortSignal): Promise<readonly Repository[]> => {
      using _turn = await this.#turns.take(shared);
      return this.walk(after, limit, shared);
    };
    return this.#walks.join(`${limit} ${after ?? ''}`, work, signal);
  }
}

/** Names of a list, from one name up to another: in a part of it, or added since. */
interface Range {
  readonly part: Part | undefined;
  readonly added: readonly Repository[];
}

/** The ranges with names after `after`, in order. */
function* rangesAfter({ parts, added }: RecordedList, after: string | undefined): Generator<Range> {
  let from = 0;
  for (let n = 0; n < Math.max(parts.length, 1); n += 1) {
    const end = parts[n + 1]?.first;
    const next = end === undefined ? -1 : added.findIndex((name, at) => at >= from && name >= end);
    const to = next === -1 ? added.length : next;
    if (after === undefined || end === undefined || end > after) {
      yield { part: parts[n], added: added.slice(from, to) };
    }
    from = to;
  }
}
