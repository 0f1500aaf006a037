import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

interface Locked {
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
  readonly license?: string;
}

function read(name: string): string {
  return readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');
}

const { dependencies, allowScripts } = JSON.parse(read('package.json')) as {
  dependencies: Record<string, string>;
  allowScripts: Record<string, boolean>;
};
const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };
const locked = Object.entries(packages).filter(([path]) => path !== '');

/** The rows of the table: name, reason, licence, size, replacement. */
const rows = read('docs/dependencies.md')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')));

const allowedLicences = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Unlicense',
]);

describe('dependencies', () => {
  it('are all named with their reason, licence, size and what would replace them', () => {
    expect(rows.map(([, name]) => name)).toEqual(Object.keys(dependencies).toSorted());
    for (const [, name, ...cells] of rows) {
      expect({ name, empty: cells.slice(0, 4).filter((cell) => cell === '') }).toEqual({ name, empty: [] });
    }
  });

  it('have the licence that is said of them', () => {
    const found = rows.map(([, name]) => [name, packages[`node_modules/${name}`]?.license]);
    expect(found).toEqual(rows.map(([, name, , licence]) => [name, licence]));
  });

  it('are free to use in a server, those that they depend on as well', () => {
    const others = locked.filter(
      ([, { dev, license }]) => dev !== true && !allowedLicences.has(license ?? ''),
    );
    expect(others.map(([path, { license }]) => `${path}: ${license}`)).toEqual([]);
  });

  it('come from the registry alone, with a sum of their bytes', () => {
    const elsewhere = locked.filter(
      ([, { resolved, integrity, link }]) =>
        link === true ||
        integrity?.startsWith('sha512-') !== true ||
        (resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/')),
    );
    expect(locked.length).toBeGreaterThan(100);
    expect(elsewhere.map(([path]) => path)).toEqual([]);
  });

  it('run no script when they are installed, but those that are allowed to', () => {
    const running = locked.filter(([, { hasInstallScript }]) => hasInstallScript === true);
    const names = running.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 13));
    expect(names.filter((name) => allowScripts[name] !== true)).toEqual([]);
    expect(running.filter(([, { dev }]) => dev !== true).map(([path]) => path)).toEqual([]);
  });
});
