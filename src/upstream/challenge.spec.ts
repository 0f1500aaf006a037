import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from './challenge.js';

function read(header: string | string[] | undefined): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe('reading challenges', () => {
  it.each<[string, string | string[] | undefined, [string, Record<string, string>][]]>([
    ['no header', undefined, []],
    ['an empty header', '', []],
    [
      'what Docker Hub sends',
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      [
        [
          'bearer',
          {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:a/b:pull,push',
          },
        ],
      ],
    ],
    ['a scheme alone', 'Basic', [['basic', {}]]],
    ['names in any case', 'BASIC Realm="R"', [['basic', { realm: 'R' }]]],
    ['unquoted values', 'Bearer realm=here, service=s', [['bearer', { realm: 'here', service: 's' }]]],
    ['spaces around the equals sign', 'Basic realm \t= "x"', [['basic', { realm: 'x' }]]],
    ['escapes in a quoted string', String.raw`Basic realm="a\"b\\c"`, [['basic', { realm: 'a"b\\c' }]]],
    [
      'several challenges in one header',
      'Negotiate, Basic realm="a, b=\\"c\\"", Bearer realm="t",service="s"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'a, b="c"' }],
        ['bearer', { realm: 't', service: 's' }],
      ],
    ],
    [
      'several headers',
      ['Basic realm="a"', 'Bearer realm="b"'],
      [
        ['basic', { realm: 'a' }],
        ['bearer', { realm: 'b' }],
      ],
    ],
    [
      'a challenge after a token68',
      'Negotiate YWJj==, Bearer realm="t"',
      [
        ['negotiate', {}],
        ['bearer', { realm: 't' }],
      ],
    ],
    ['empty list members', ', ,Basic realm="a",,', [['basic', { realm: 'a' }]]],
    ['the first of equal parameters', 'Bearer realm="a", realm="b"', [['bearer', { realm: 'a' }]]],
    ['a parameter without a scheme', 'realm="a"', []],
    ['a quoted string without its end', 'Bearer service="s", realm="a', [['bearer', { service: 's' }]]],
    ['a string that ends in a backslash', 'Bearer realm="a\\', [['bearer', {}]]],
    ['what no grammar allows', '(((, =,"x" , Basic', [['basic', {}]]],
  ])('reads %s', (_, header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  it('gives back what was quoted, whatever it is', () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const quoted = value.replaceAll(/["\\]/g, String.raw`\$&`);
        expect(read(`Bearer realm="${quoted}", service=s`)).toEqual([
          ['bearer', { realm: value, service: 's' }],
        ]);
      }),
    );
  });

  it('survives any text', () => {
    const hostile = fc.array(fc.constantFrom('"', '\\', ',', '=', ' ', 'a', 'Bearer ', 'realm=', '\t'));
    const text = fc.oneof(
      fc.string(),
      hostile.map((parts) => parts.join('')),
    );
    const isSound = (header: string): boolean =>
      parseChallenges(header).every(({ scheme, parameters }) => scheme !== '' && !parameters.has(''));
    expect(() => fc.assert(fc.property(text, isSound))).not.toThrow();
  });
});
