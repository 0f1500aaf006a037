/**
 * The entries of a JSON list, kept as their text. One copy serves the cache and all clients, and takes a small part of
 * what parsed values take.
 */
export class EntryList {
  private constructor(
    private readonly text: Buffer,
    /** Where each entry ends in the text; a comma follows. */
    private readonly ends: Uint32Array,
  ) {}

  /** @throws RangeError where an entry is nested so deeply that it cannot be written. */
  static of(entries: readonly unknown[]): EntryList {
    const pieces = entries.map((entry) => JSON.stringify(entry));
    const text = Buffer.from(pieces.join(','));
    const ends = new Uint32Array(pieces.length);
    let at = -1;
    for (const [index, piece] of pieces.entries()) {
      at += 1 + Buffer.byteLength(piece);
      ends[index] = at;
    }
    return new EntryList(text, ends);
  }

  get length(): number {
    return this.ends.length;
  }

  /** What the list takes in memory. */
  get bytes(): number {
    return this.text.byteLength + this.ends.byteLength;
  }

  /** The entries from `start` until before `end`, with commas between them: a view, not a copy. */
  textOf(start = 0, end = this.length): Buffer {
    const until = Math.min(end, this.length);
    if (start >= until) return this.text.subarray(0, 0);
    return this.text.subarray(this.#startOf(start), this.ends[until - 1]);
  }

  /** One entry, parsed. */
  at(index: number): unknown {
    return JSON.parse(this.textOf(index, index + 1).toString('utf8'));
  }

  /** The place of the first entry after `last`, in a list of sorted strings. */
  placeAfter(last: string): number {
    let [from, until] = [0, this.length];
    while (from < until) {
      const middle = (from + until) >>> 1;
      if (String(this.at(middle)) > last) until = middle;
      else from = middle + 1;
    }
    return from;
  }

  /** The text of the entries that pass, with commas between them: a copy. */
  textWhere(passes: (entry: unknown) => boolean): Buffer {
    const pieces: Buffer[] = [];
    for (let begin = 0; begin < this.length;) {
      let end = begin;
      while (end < this.length && passes(this.at(end))) end += 1;
      if (end > begin) pieces.push(...(pieces.length === 0 ? [] : [comma]), this.textOf(begin, end));
      begin = end + 1;
    }
    return Buffer.concat(pieces);
  }

  #startOf(index: number): number {
    return index === 0 ? 0 : (this.ends[index - 1] ?? 0) + 1;
  }
}

const comma = Buffer.from(',');
