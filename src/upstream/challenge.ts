/** One challenge of a `WWW-Authenticate` header (RFC 9110 §11.6.1). Names are lower-case, values unquoted. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Reads the challenges of one or several `WWW-Authenticate` headers. It reads each character once or twice, whatever
 * the text; what cannot be read is skipped up to the next comma, and of equal parameters the first one counts.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  if (header === undefined) return [];
  const text = typeof header === 'string' ? header : header.join(', ');
  const challenges: Challenge[] = [];
  let parameters: Map<string, string> | undefined;
  let at = 0;
  while ((at = skip(text, at, isSeparator)) < text.length) {
    const afterName = skip(text, at, isTokenChar);
    const name = text.slice(at, afterName).toLowerCase();
    const next = skip(text, afterName, isSpace);
    if (name === '') {
      at = skip(text, at, isNotComma);
    } else if (text[next] !== '=') {
      parameters = new Map();
      challenges.push({ scheme: name, parameters });
      at = next;
    } else {
      const value = readValue(text, skip(text, next + 1, isSpace));
      if (value.text !== undefined && parameters?.has(name) === false) parameters.set(name, value.text);
      at = value.end;
    }
  }
  return challenges;
}

/** A token or a quoted string; without text where it is neither (such as the padding of a token68). */
function readValue(text: string, start: number): { text: string | undefined; end: number } {
  if (text[start] !== '"') {
    const end = skip(text, start, isTokenChar);
    return { text: end === start ? undefined : text.slice(start, end), end: skip(text, end, isNotComma) };
  }
  let value = '';
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] === '"') return { text: value, end: at + 1 };
    if (text[at] === '\\') at += 1;
    value += text[at] ?? '';
  }
  return { text: undefined, end: text.length };
}

function skip(text: string, start: number, matches: (character: string) => boolean): number {
  let at = start;
  while (at < text.length && matches(text.charAt(at))) at += 1;
  return at;
}

const isSpace = (c: string): boolean => c === ' ' || c === '\t';
const isSeparator = (c: string): boolean => isSpace(c) || c === ',';
const isNotComma = (c: string): boolean => c !== ',';
const tokenChars = new Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
const isTokenChar = (c: string): boolean => tokenChars.has(c);
