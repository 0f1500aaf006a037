import { writeFileSync } from 'node:fs';
import type * as keyModule from '../src/config/key.js';
import type { Facts, Key, ValueFacts } from '../src/config/key.js';
import type * as schemaModule from '../src/config/schema.js';

/** Writes docs/configuration.md from the schema. Run it after a build: `node scripts/configuration-doc.ts`. */

const introduction = `# Configuration

<!-- Generated from src/config/schema.ts by scripts/configuration-doc.ts: do not edit. -->

The format is that of Distribution's \`config.yml\`, version 0.1, with some keys more: a file that was written for
registry 2 or 3 as a mirror works as it is, and registry starts with a file that was written for this program. Keys of
our own stand under \`proxy\`, \`http\`, \`cluster\` and \`scheduler\`, and some beside registry's in \`redis\` and
\`storage.s3\`, where registry does not mind them; never directly under \`storage\`, where it would take them for a second
driver.

**Which file.** The argument of \`serve\`; else \`REGISTRY_CONFIGURATION_PATH\`; else \`/etc/docker/registry/config.yml\`,
\`/etc/distribution/config.yml\`, or the \`deploy/config/default.yml\` of the installation, the first that is there.
Relative paths in it are relative to the working directory.

**From the environment.** Every key has a variable: \`REGISTRY_\` and the path in upper case, joined by \`_\`. Its value is
YAML, so \`[a, b]\` is a list and \`{a: 1}\` a section. Variables are applied in the order of their names, so that
\`REGISTRY_STORAGE\` comes before \`REGISTRY_STORAGE_DELETE_ENABLED\`; one that names a section replaces it
(\`REGISTRY_STORAGE=filesystem\`), an empty one removes its key. Items of a list are numbered from 0
(\`REGISTRY_PROXY_UPSTREAMS_0_HOST\`), the names of a map go in lower case unless they are there already
(\`REGISTRY_HTTP_HEADERS_X-FRAME-OPTIONS=[deny]\`). A variable that names no key has no effect, and the log names the
nearest one that does; those that Kubernetes sets for a service called "registry" (\`REGISTRY_PORT=tcp://…\`) are not
taken for keys.

**What is wrong** is said at once, all of it, on stderr, before a port is opened; the exit code is 2. A key that nobody
knows is a warning with the nearest known one in registry's sections, and an error in ours and under \`storage\` and
\`auth\`. A key of registry's that makes no sense here is a warning that says why. Passwords and other secrets never appear in a
message.

**Security settings are honoured or refused, never ignored.** An empty key counts as absent, with one exception: the
mirror does not start with an empty security setting (\`auth:\`, \`REGISTRY_AUTH=\`, \`access: []\`, \`clientcas:\` with every
line commented out, an htpasswd file with only comments, an empty secret file). Registry would start, open to everybody.
The error says what to write, and when the key may be removed. \`auth: none\` lets everybody pull. These keys are:
@@GUARDS@@. An empty variable cannot remove a section
that contains one of them.

**Durations** are written as in Go: \`10ms\`, \`60s\`, \`1h30m\`. A bare number counts nanoseconds, as in registry, with a
warning. The mirror refuses a duration below 1 ms other than 0, a \`ttl\` without a unit that is less than a minute, and a
job's schedule below 1 s: \`168\` is 168 ns, and the error asks whether \`168h\` was meant. It rounds all others up to whole
milliseconds. **Sizes** are \`500GB\` (10⁹), \`20GiB\` (2³⁰) or a whole number of bytes: 0, or at least 1000.

**Secrets in variables** (passwords, keys, tokens, \`REGISTRY_CLUSTER_SECRET\`) are taken literally, not as YAML: for
example \`a #b\`, \`*a\` and \`a: b\`. Registry cuts the first at \` #\` and does not start with the others. Quotes around the
whole value are removed as in YAML, so a value that is quoted for registry means the same here. A secret that itself
begins and ends with a quote needs a further pair of quotes. One newline at the end is removed. In the file, and inside
the value of a section's variable (\`REGISTRY_PROXY={…}\`), a secret is YAML like everything else.
`;

/** The whole page. */
export function configurationPage(keys: readonly Key[]): string {
  const guards = keys.filter(({ facts }) => facts.guard !== undefined).map(({ path }) => `\`${path}\``);
  const parts = [introduction.replace('@@GUARDS@@', guards.join(', '))];
  const sections = keys.filter(({ path, facts }) => !path.includes('.') && isTable(facts));
  const single = keys.filter(({ path, facts }) => !path.includes('.') && facts.form === 'value');
  parts.push('## At the top\n', table(single));
  for (const { path, facts } of sections) {
    parts.push(`## \`${path}\`\n`, `${facts.text}\n`);
    const rows = keys.filter((key) => key.path.startsWith(`${path}.`) && isDocumented(key.facts));
    if (rows.length > 0) parts.push(table(rows));
  }
  parts.push(
    '## Without effect\n',
    "Registry's keys that make no sense here: accepted with a warning.\n",
    rows(
      ['key', 'why'],
      listed(keys, 'ignored', ({ text }) => [text]),
    ),
    '## Refused\n',
    'To ignore these would open what they close, or serve something else: the start is refused.\n',
    rows(
      ['key', 'why', 'instead'],
      listed(keys, 'refused', (facts) => [facts.text, facts.wanted]),
    ),
  );
  return parts.join('\n');
}

function isTable(facts: Facts): boolean {
  return facts.form === 'section' || facts.form === 'entries';
}

function isDocumented(facts: Facts): boolean {
  return facts.form !== 'ignored' && facts.form !== 'refused';
}

function listed<F extends 'ignored' | 'refused'>(
  keys: readonly Key[],
  form: F,
  cells: (facts: Extract<Facts, { form: F }>) => string[],
): string[][] {
  const isForm = (facts: Facts): facts is Extract<Facts, { form: F }> => facts.form === form;
  return keys.flatMap(({ path, facts }) => (isForm(facts) ? [[`\`${path}\``, ...cells(facts)]] : []));
}

function table(keys: readonly Key[]): string {
  const head = ['key', 'variable', 'type', 'default', 'meaning', 'whose'];
  return rows(
    head,
    keys.map(({ path, variable, facts }) => [
      `\`${path}\``,
      `\`${variable}\``,
      typeOf(facts),
      facts.form === 'value' ? defaultOf(facts) : '',
      facts.text,
      facts.ours === true ? 'ours' : "registry's",
    ]),
  );
}

function typeOf(facts: Facts): string {
  if (facts.form === 'entries') return 'list of sections';
  if (facts.form === 'headers') return 'map of header names to lists';
  if (facts.form !== 'value') return 'section';
  const { kind } = facts.value;
  if (facts.many === 'list') return `list: ${kind}`;
  if (facts.many === 'lists') return `map of lists: ${kind}`;
  return facts.many === 'map' ? `map: ${kind}` : kind;
}

function defaultOf({ fallback, required }: ValueFacts): string {
  if (required === true) return '(required)';
  return fallback === undefined ? '' : `\`${fallback}\``;
}

function rows(head: readonly string[], body: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...body.map(line), ''].join('\n');
}

async function write(): Promise<void> {
  const built = (name: string) => new URL(`../dist/config/${name}.js`, import.meta.url).href;
  const { keysOf } = (await import(built('key'))) as typeof keyModule;
  const { root } = (await import(built('schema'))) as typeof schemaModule;
  writeFileSync(new URL('../docs/configuration.md', import.meta.url), configurationPage([...keysOf(root)]));
}

if (import.meta.main) await write();
