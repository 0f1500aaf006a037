import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linesOf } from './lines.js';

async function* pieces(text: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer> {
  let from = 0;
  for (const cut of [...cuts, text.length].toSorted((a, b) => a - b)) {
    yield text.subarray(from, cut);
    from = cut;
  }
}

async function read(text: string, cuts: readonly number[] = [], longest = 1000): Promise<string[]> {
  const found: string[] = [];
  for await (const line of linesOf(pieces(Buffer.from(text), cuts), longest)) found.push(line.toString());
  return found;
}

describe('lines of a watch', () => {
  it('are the same however the body is cut; what is cut off at the end is left out', async () => {
    const line = fc
      .array(fc.constantFrom('a', 'ä', '€', '\r'), { minLength: 1, maxLength: 5 })
      .map((letters) => letters.join(''));
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 5 }),
        line,
        fc.array(fc.nat(), { maxLength: 5 }),
        async (lines, rest, cuts) => {
          const text = lines.map((each) => `${each}\n`).join('') + rest;
          const length = Buffer.byteLength(text);
          expect(
            await read(
              text,
              cuts.map((cut) => cut % (length + 1)),
              Infinity,
            ),
          ).toEqual(lines);
        },
      ),
    );
  });

  it('are not gathered beyond what an event may have', async () => {
    expect(await read(`${'a'.repeat(1000)}\nb\n`)).toHaveLength(2);
    await expect(read('a'.repeat(1001))).rejects.toMatchObject({ code: 'invalid' });
  });
});
