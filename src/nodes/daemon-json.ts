import { NodeError } from './faults.js';

interface Member {
  readonly key: string;
  /** Where its value begins and ends in the text. */
  readonly start: number;
  readonly end: number;
}

interface ObjectText {
  /** After the opening brace. */
  readonly open: number;
  readonly close: number;
  readonly members: readonly Member[];
}

/**
 * The text of a JSON object with a value at the beginning of a list in it, which is made where it is not there. All
 * else stays as it is, byte for byte: order, indentation, the way numbers are written. A list that has the value stays
 * too. @throws NodeError `unreadable`
 */
export function withListed(text: string, key: string, value: string): string {
  const root = parseObject(text);
  const list = root[key];
  if (list !== undefined && !Array.isArray(list)) {
    throw new NodeError('unreadable', `"${key}" is not a list`);
  }
  if (list?.some((each) => isSame(each, value))) return text;
  const item = JSON.stringify(value);
  const { open, close, members } = scan(text);
  // Of equal keys the last one counts.
  const member = members.findLast((each) => each.key === key);
  if (member === undefined)
    return withMember(text, `${JSON.stringify(key)}: [${item}]`, { open, close, members });
  if (list?.length === 0) return `${text.slice(0, member.start)}[${item}]${text.slice(member.end)}`;
  const first = skipSpace(text, member.start + 1);
  const space = text.slice(member.start + 1, first);
  return `${text.slice(0, first)}${item},${space === '' ? ' ' : space}${text.slice(first)}`;
}

/** dockerd takes a mirror with or without a slash at its end for the same. */
function isSame(listed: unknown, value: string): boolean {
  return typeof listed === 'string' && listed.replace(/\/$/, '') === value;
}

function parseObject(text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new NodeError('unreadable', 'it is not JSON', { cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new NodeError('unreadable', 'it is not a JSON object');
  }
  return parsed as Record<string, unknown>;
}

function withMember(text: string, member: string, { open, close, members }: ObjectText): string {
  const last = members.at(-1);
  const newline = text.includes('\r\n') ? '\r\n' : '\n';
  if (last === undefined) return `${text.slice(0, open)}${newline}  ${member}${newline}${text.slice(close)}`;
  // What stands between the brace and the first key stands before the new one as well.
  const space = text.slice(open, skipSpace(text, open));
  return `${text.slice(0, last.end)},${space === '' ? ' ' : space}${member}${text.slice(last.end)}`;
}

/** The members of the outermost object of a text that is known to be JSON. */
function scan(text: string): ObjectText {
  const members: Member[] = [];
  const open = skipSpace(text, 0) + 1;
  let at = skipSpace(text, open);
  while (text[at] !== '}') {
    const afterKey = endOfString(text, at);
    const key = JSON.parse(text.slice(at, afterKey)) as string;
    const start = skipSpace(text, skipSpace(text, afterKey) + 1);
    const end = endOfValue(text, start);
    members.push({ key, start, end });
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return { open, close: at, members };
}

function endOfValue(text: string, start: number): number {
  let depth = 0;
  for (let at = start; ;) {
    const character = text.charAt(at);
    if (character === '"') at = endOfString(text, at);
    else if (depth === 0 && /[\s,}\]]/.test(character)) return at;
    else {
      if (character === '{' || character === '[') depth += 1;
      if (character === '}' || character === ']') depth -= 1;
      at += 1;
    }
    if (depth === 0 && /["}\]]/.test(character)) return at;
  }
}

function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (/[ \t\r\n]/.test(text.charAt(at))) at += 1;
  return at;
}
