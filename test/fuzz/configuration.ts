import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { ConfigError, formatFaults } from '../../src/config/faults.js';
import { type Facts, keysOf } from '../../src/config/key.js';
import { loadConfig } from '../../src/config/load.js';
import { root } from '../../src/config/schema.js';
import type { Fuzzed } from './properties.js';
import { texts } from './texts.js';

const keys = [...keysOf(root)];
/** The value of every secret. */
const marker = 'hunter2-hunter2';

const scalars = fc.oneof(
  fc.constantFrom(
    'true',
    '0',
    '1',
    '10s',
    '500GB',
    ':5000',
    'docker.io',
    'https://a.example',
    'inmemory',
    '',
  ),
  texts('a', 'https://', '10', 's', 'GB', '*/5 * * * *', '/dev/null', '127.0.0.1', '/8'),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
);

function valuesOf(facts: Facts): fc.Arbitrary<unknown> {
  if (facts.form === 'value' && facts.value.secret === true) return fc.constant(marker);
  return fc.oneof(
    { weight: 8, arbitrary: scalars },
    { weight: 1, arbitrary: fc.array(scalars, { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.dictionary(fc.constantFrom('a', '__proto__', 'constructor', 'x-y'), scalars) },
  );
}

const settings = fc
  .constantFrom(...keys)
  .chain(({ path, facts }) => fc.tuple(fc.constant(path), valuesOf(facts)));

type Node = Record<string, unknown>;

/** `proxy.upstreams[].host`: a map, with a list of one map in it. */
function put(tree: Node, path: string, value: unknown): void {
  const parts = path.split('.');
  let node = tree;
  for (const [index, part] of parts.entries()) {
    const name = part.replace('[]', '');
    if (index === parts.length - 1) node[name] = value;
    else {
      const next = asNode(node[name]);
      node[name] = part.endsWith('[]') ? [next] : next;
      node = next;
    }
  }
}

function asNode(value: unknown): Node {
  const found: unknown = Array.isArray(value) ? value[0] : value;
  return typeof found === 'object' && found !== null && !Array.isArray(found) ? (found as Node) : {};
}

const trees = fc.array(settings, { maxLength: 12 }).map((chosen) => {
  const tree: Node = { version: '0.1', storage: { filesystem: { rootdirectory: '/data' } } };
  for (const [path, value] of chosen) put(tree, path, value);
  return stringify(tree);
});
const broken = fc
  .tuple(trees, fc.nat(), texts('&a', '*a', '<<: ', '- ', '{', '[', '!!js', '|', '\t'))
  .map(
    ([text, place, piece]) => text.slice(0, place % text.length) + piece + text.slice(place % text.length),
  );
const environments = fc.dictionary(
  fc.oneof(
    fc.constantFrom(...keys.map(({ variable }) => variable)),
    texts('REGISTRY_', 'PROXY', '_', 'UPSTREAMS', '0', '__PROTO__'),
  ),
  texts('true', '[a]', '{a: 1}', '10s'),
  { maxKeys: 3 },
);

export const configurations: Fuzzed = {
  name: 'configurations',
  share: 20_000,
  check: (numRuns, seed) => {
    const folder = mkdtempSync(join(tmpdir(), 'cistern-fuzz-'));
    const path = join(folder, 'config.yml');
    const load = (text: string, env: NodeJS.ProcessEnv): void => {
      writeFileSync(path, text);
      try {
        loadConfig({ path, env, cwd: folder });
      } catch (error) {
        assert.ok(error instanceof ConfigError, 'only ConfigError');
        assert.ok(error.faults.length > 0, 'with a fault');
        assert.ok(!text.includes(marker) || !formatFaults(error).includes(marker), 'no secret is told');
      }
      assert.equal(Object.keys(Object.prototype).length, 0, 'prototypes stay as they are');
    };
    try {
      fc.assert(
        fc.property(fc.oneof({ weight: 3, arbitrary: trees }, broken), environments, (text, env) =>
          load(text, env),
        ),
        { numRuns, seed },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};
