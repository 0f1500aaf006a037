import fc from 'fast-check';

/** What has a meaning somewhere: separators, escapes, controls, and what looks like one of them. */
const dangerous = [
  '/',
  '//',
  '..',
  '/../',
  './',
  '\\',
  '%2F',
  '%2e%2e%2f',
  '%252e',
  '%00',
  '%0d%0a',
  '%zz',
  '\0',
  '\r\n',
  '\n',
  '\u2028',
  '\u202E',
  '\uFF0F',
  '\uD800',
  '"',
  "'",
  ',',
  ';',
  '=',
  ':',
  '@',
  '?',
  '#',
  '&',
  '<',
  ' ',
  '\t',
  '-',
  '_',
  '*',
] as const;

/** Texts of a language's own words, of what is dangerous in any, and of anything at all; short and long. */
export function texts(...words: readonly string[]): fc.Arbitrary<string> {
  const piece = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...words) },
    { weight: 3, arbitrary: fc.constantFrom(...dangerous) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 6 }) },
  );
  const joined = fc.array(piece, { maxLength: 14 }).map((pieces) => pieces.join(''));
  // What a backtracking expression would take for ever to refuse.
  const repeated = fc
    .tuple(piece, fc.integer({ min: 20, max: 2000 }), piece)
    .map(([many, times, last]) => many.repeat(times) + last);
  return fc.oneof({ weight: 50, arbitrary: joined }, { weight: 1, arbitrary: repeated });
}

/** Whether a text may stand in a header: no control character, above all no line break. */
export function isHeaderSafe(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}
