import { describe, expect, it } from 'vitest';
import { withListed } from './daemon-json.js';

const mirror = 'https://mirror.example.com';

function listed(text: string): string {
  const changed = withListed(text, 'registry-mirrors', mirror);
  // Whatever the text looks like, it means what it meant, with the mirror.
  const { 'registry-mirrors': mirrors, ...others } = JSON.parse(changed) as Record<string, unknown>;
  const { 'registry-mirrors': before = [], ...same } = JSON.parse(text) as Record<string, unknown>;
  expect(others).toEqual(same);
  const known = before as string[];
  expect(mirrors).toEqual(known.includes(mirror) ? known : [mirror, ...known]);
  return changed;
}

describe('a list in daemon.json', () => {
  it.each<[string, string, string]>([
    ['an empty object', '{}', `{\n  "registry-mirrors": ["${mirror}"]\n}`],
    [
      'keys in their order, indented with tabs',
      '{\n\t"z": 1e3,\n\t"a": {"b": [1, "}"]}\n}\n',
      `{\n\t"z": 1e3,\n\t"a": {"b": [1, "}"]},\n\t"registry-mirrors": ["${mirror}"]\n}\n`,
    ],
    ['one line', '{"a": "\\"}"}', `{"a": "\\"}", "registry-mirrors": ["${mirror}"]}`],
    ['an empty list', '{"registry-mirrors": [ ], "a": 1}', `{"registry-mirrors": ["${mirror}"], "a": 1}`],
    [
      'a list of others, one a line',
      '{\r\n  "registry-mirrors": [\r\n    "https://o"\r\n  ]\r\n}',
      `{\r\n  "registry-mirrors": [\r\n    "${mirror}",\r\n    "https://o"\r\n  ]\r\n}`,
    ],
    [
      'a list of others in one line',
      '{"registry-mirrors":["https://o"]}',
      `{"registry-mirrors":["${mirror}", "https://o"]}`,
    ],
  ])('is added to %s', (_, text, expected) => {
    expect(listed(text)).toBe(expected);
  });

  it('stays where it has the mirror, wherever that stands', () => {
    const text = `{"registry-mirrors": ["https://o", "${mirror}"]}`;
    expect(listed(text)).toBe(text);
    const slash = `{"registry-mirrors": ["${mirror}/"]}`;
    expect(withListed(slash, 'registry-mirrors', mirror)).toBe(slash);
  });

  it.each(['', '[]', 'null', '{"a": 1,}', '{"registry-mirrors": "https://o"}'])(
    'is refused in %j',
    (text) => {
      expect(() => withListed(text, 'registry-mirrors', mirror)).toThrow(
        expect.objectContaining({ name: 'NodeError', code: 'unreadable' }),
      );
    },
  );
});
