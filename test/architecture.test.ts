import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { preProcessFile } from 'typescript';
import { describe, expect, it } from 'vitest';

const src = fileURLToPath(new URL('../src', import.meta.url));

/** Which of our folders each may import, besides itself. Those at the edge, `cli` and the files in src, may all. */
const folders: Readonly<Record<string, readonly string[]>> = {
  oci: [],
  // Waits and work that callers share.
  async: [],
  // Buffers, for whoever moves bytes.
  memory: [],
  config: ['oci'],
  telemetry: ['oci', 'async', 'config'],
  storage: ['oci', 'async', 'memory', 'config', 'telemetry'],
  kubernetes: ['oci', 'async', 'memory', 'config', 'telemetry'],
  upstream: ['oci', 'async', 'memory', 'config', 'telemetry', 'kubernetes'],
  // The ledger of upstreams' pull limits is a contract of theirs.
  cluster: ['oci', 'async', 'memory', 'config', 'telemetry', 'upstream'],
  // What goes into the store is counted for those who take it out.
  proxy: ['oci', 'async', 'memory', 'config', 'telemetry', 'storage', 'cluster', 'upstream', 'usage'],
  usage: ['oci', 'async', 'config', 'telemetry', 'storage'],
  // The catalogue reads what is stored, and storage's errors become answers.
  registry: ['oci', 'async', 'memory', 'config', 'telemetry', 'storage', 'upstream', 'proxy', 'usage'],
  // What runs somewhere is not deleted.
  scheduler: ['oci', 'async', 'config', 'telemetry', 'storage', 'cluster', 'usage'],
  content: [
    'oci',
    'async',
    'config',
    'telemetry',
    'storage',
    'cluster',
    'upstream',
    'proxy',
    'usage',
    'scheduler',
  ],
  prewarm: [
    'oci',
    'async',
    'config',
    'telemetry',
    'storage',
    'cluster',
    'upstream',
    'proxy',
    'usage',
    'scheduler',
  ],
  // Files of clients, and the page that shows them to whoever may pull.
  nodes: ['memory', 'config', 'telemetry', 'upstream', 'registry'],
  inuse: [
    'oci',
    'async',
    'memory',
    'config',
    'telemetry',
    'kubernetes',
    'storage',
    'cluster',
    'upstream',
    'usage',
    'scheduler',
    'prewarm',
  ],
  // Tries out by itself what the others would do.
  doctor: ['oci', 'async', 'memory', 'config', 'telemetry', 'storage', 'cluster', 'upstream', 'nodes'],
  // The status page tells of all of them.
  health: ['oci', 'async', 'config', 'telemetry', 'storage', 'cluster', 'upstream', 'proxy', 'scheduler'],
  admin: [
    'oci',
    'async',
    'memory',
    'config',
    'telemetry',
    'storage',
    'cluster',
    'upstream',
    'proxy',
    'usage',
    'scheduler',
    'content',
    'prewarm',
  ],
};

const framework =
  /(?:\.module|\.controller|\.filter)\.ts$|^cli\/(?:serve|prepare-store|offline)\.ts$|^main\.ts$|^telemetry\/nest-logger\.ts$/;

/** Where a package may be imported. Those that are not listed may be everywhere. */
const packages: readonly { readonly name: RegExp; readonly within: RegExp }[] = [
  { name: /^(?:@nestjs\/|reflect-metadata$|rxjs$)/, within: framework },
  { name: /^@opentelemetry\//, within: /^telemetry\/tracing-otlp\.ts$/ },
  { name: /^prom-client$/, within: /^(?:telemetry|health)\// },
  { name: /^undici$/, within: /^upstream\// },
  { name: /^@kubernetes\//, within: /^kubernetes\// },
  { name: /^@aws-sdk\//, within: /^storage\/s3\// },
  { name: /^(?:ioredis|redlock)$/, within: /^cluster\/(?:redis\/|cluster\.module\.ts$)/ },
  { name: /^(?:zod|yaml)$/, within: /^config\// },
  { name: /^(?:diff|smol-toml)$/, within: /^nodes\// },
  { name: /^pkijs$/, within: /^registry\/certificate-chain\.ts$/ },
  { name: /^commander$/, within: /^cli\// },
  { name: /^croner$/, within: /^(?:config|scheduler)\// },
];

interface Import {
  /** Relative to src, with forward slashes. */
  readonly from: string;
  /** The same for our own files, else the package's name or `node:…`. */
  readonly to: string;
  readonly own: boolean;
}

function importsOf(from: string): Import[] {
  const { importedFiles } = preProcessFile(readFileSync(join(src, from), 'utf8'));
  return importedFiles.map(({ fileName }) => {
    const own = fileName.startsWith('.');
    const to = own ? normalize(join(dirname(from), fileName)).replace(/\.js$/, '.ts') : fileName;
    return { from, to, own };
  });
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'),
);
const imports = files.flatMap((file) => importsOf(file));
const ownImports = imports.filter(({ own }) => own);

function shown(offending: readonly Import[]): string[] {
  return offending.map(({ from, to }) => `${from} imports ${to}`);
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
}

describe('the architecture', () => {
  it('knows every folder', () => {
    const known = new Set([...Object.keys(folders), 'cli', '']);
    expect([...new Set(files.map((file) => folderOf(file)))].filter((folder) => !known.has(folder))).toEqual(
      [],
    );
    expect(ownImports.length).toBeGreaterThan(100);
  });

  it('lets folders import only those below them', () => {
    const offending = ownImports.filter(({ from, to }) => {
      const allowed = folders[folderOf(from)];
      return allowed !== undefined && folderOf(from) !== folderOf(to) && !allowed.includes(folderOf(to));
    });
    expect(shown(offending)).toEqual([]);
  });

  it('lets the registry and health know the contract of storage alone', () => {
    const offending = ownImports.filter(
      ({ from, to }) =>
        ['registry', 'health'].includes(folderOf(from)) &&
        !from.endsWith('.module.ts') &&
        folderOf(to) === 'storage' &&
        to !== 'storage/storage.ts',
    );
    expect(shown(offending)).toEqual([]);
  });

  it('keeps modules, which build objects, to themselves and the edge', () => {
    const offending = ownImports.filter(({ from, to }) => to.endsWith('.module.ts') && !framework.test(from));
    expect(shown(offending)).toEqual([]);
  });

  it('fences packages', () => {
    const offending = imports.filter(
      ({ from, to, own }) => !own && packages.some(({ name, within }) => name.test(to) && !within.test(from)),
    );
    expect(shown(offending)).toEqual([]);
  });

  it('imports what is there, and in no circle', () => {
    expect(shown(ownImports.filter(({ to }) => !files.includes(to)))).toEqual([]);
    expect(circleIn(Map.groupBy(ownImports, ({ from }) => from))).toBeUndefined();
  });
});

/** The first circle found, as a list of files that begins and ends with the same one. */
function circleIn(graph: ReadonlyMap<string, readonly Import[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const { to } of graph.get(file) ?? []) {
      const circle = visit(to, [...path, file]);
      if (circle !== undefined) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const circle = visit(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}
