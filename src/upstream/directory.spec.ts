import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRepository, type Repository } from '../oci/name.js';
import {
  libraryRule,
  RouteError,
  UpstreamDirectory,
  type DirectoryEntry,
  type RouteQuery,
} from './directory.js';

function entry(host: string, changes: Partial<DirectoryEntry> = {}): DirectoryEntry {
  return {
    upstream: undefined,
    host,
    aliases: [],
    hosts: [],
    isDefault: false,
    library: 'never',
    ...changes,
  };
}

/** Refused in the way that is agreed on, or led to valid names in the tree of the host that it names. */
function isSound(query: RouteQuery): boolean {
  try {
    const { host, name, stored } = around.route(query);
    const owner = [ghcr, quay, local].find((other) => stored.startsWith(`${other.host.replace(':', '__')}/`));
    return (
      parseRepository(name) === name && parseRepository(stored) === stored && host === (owner ?? hub).host
    );
  } catch (error) {
    return error instanceof RouteError;
  }
}

const hub = entry('docker.io', { isDefault: true, library: 'always' });
const ghcr = entry('ghcr.io', { aliases: ['docker.pkg.github.com'] });
const quay = entry('quay.io', { hosts: ['quay.mirror.example.com', 'mirror.example.com:8443'] });
const local = entry('registry.local:5000');

const around = new UpstreamDirectory([hub, ghcr, quay, local]);

function outcome(directory: UpstreamDirectory, query: RouteQuery): string {
  try {
    const { host, name, stored } = directory.route(query);
    return `${host} ${name} ${stored}`;
  } catch (error) {
    if (error instanceof RouteError) return error.code;
    throw error;
  }
}

describe('routes', () => {
  it.each<[string, RouteQuery, string]>([
    ['the default', { name: 'library/nginx' }, 'docker.io library/nginx library/nginx'],
    ['a bare name on the default', { name: 'nginx' }, 'docker.io library/nginx library/nginx'],
    ['a dotted name without a slash', { name: 'my.image' }, 'docker.io library/my.image library/my.image'],
    ['ns', { ns: 'ghcr.io', name: 'o/i' }, 'ghcr.io o/i ghcr.io/o/i'],
    ['ns in capitals', { ns: 'GHCR.io', name: 'o/i' }, 'ghcr.io o/i ghcr.io/o/i'],
    ['ns by an alias', { ns: 'docker.pkg.github.com', name: 'o/i' }, 'ghcr.io o/i ghcr.io/o/i'],
    [
      'ns with a port',
      { ns: 'registry.local:5000', name: 'a' },
      'registry.local:5000 a registry.local__5000/a',
    ],
    ['ns of the default', { ns: 'docker.io', name: 'nginx' }, 'docker.io library/nginx library/nginx'],
    ['ns by another name of Hub', { ns: 'registry-1.docker.io', name: 'o/i' }, 'docker.io o/i o/i'],
    ['an empty ns', { ns: '', name: 'o/i' }, 'docker.io o/i o/i'],
    ['ns of nobody', { ns: 'gcr.io', name: 'o/i' }, 'name-unknown'],
    ['ns of nobody before a bad name', { ns: 'gcr.io', name: '../..' }, 'name-unknown'],
    [
      'ns before the host',
      { ns: 'ghcr.io', hostHeader: 'quay.mirror.example.com', name: 'o/i' },
      'ghcr.io o/i ghcr.io/o/i',
    ],
    ['ns before a prefix', { ns: 'ghcr.io', name: 'quay.io/i' }, 'ghcr.io quay.io/i ghcr.io/quay.io/i'],
    [
      'ns with its own prefix, which stays',
      { ns: 'ghcr.io', name: 'ghcr.io/i' },
      'ghcr.io ghcr.io/i ghcr.io/ghcr.io/i',
    ],
    ['a host', { hostHeader: 'quay.mirror.example.com', name: 'o/i' }, 'quay.io o/i quay.io/o/i'],
    [
      'a host with any port',
      { hostHeader: 'Quay.Mirror.example.com:443', name: 'o/i' },
      'quay.io o/i quay.io/o/i',
    ],
    [
      'a host with its port',
      { hostHeader: 'mirror.example.com:8443', name: 'o/i' },
      'quay.io o/i quay.io/o/i',
    ],
    ['a host with another port', { hostHeader: 'mirror.example.com', name: 'o/i' }, 'docker.io o/i o/i'],
    ['a host of nobody', { hostHeader: '[::1]', name: 'o/i' }, 'docker.io o/i o/i'],
    [
      'a host before a prefix',
      { hostHeader: 'quay.mirror.example.com', name: 'ghcr.io/i' },
      'quay.io ghcr.io/i quay.io/ghcr.io/i',
    ],
    ['a prefix', { name: 'ghcr.io/o/i' }, 'ghcr.io o/i ghcr.io/o/i'],
    ['a prefix in capitals', { name: 'GHCR.io/o/i' }, 'ghcr.io o/i ghcr.io/o/i'],
    [
      'a prefix with a port',
      { name: 'registry.local:5000/o/i' },
      'registry.local:5000 o/i registry.local__5000/o/i',
    ],
    ['a prefix of the default', { name: 'docker.io/nginx' }, 'docker.io library/nginx library/nginx'],
    ['a prefix by another name of Hub', { name: 'index.docker.io/o/i' }, 'docker.io o/i o/i'],
    ['a bare name elsewhere', { name: 'ghcr.io/i' }, 'ghcr.io i ghcr.io/i'],
    ['a prefix that looks like a host', { name: 'gcr.io/o/i' }, 'name-unknown'],
    ['a prefix with a port of nobody', { name: 'ghcr.io:5000/o/i' }, 'name-unknown'],
    ['localhost', { name: 'localhost/o/i' }, 'name-unknown'],
    ['a prefix and nothing else', { name: 'ghcr.io/' }, 'name-invalid'],
    ['a name that climbs', { name: 'o/../i' }, 'name-invalid'],
    ['a name that climbs under ns', { ns: 'ghcr.io', name: '../quay.io/i' }, 'name-invalid'],
    ['capitals', { name: 'o/I' }, 'name-invalid'],
    ['no name', { name: '' }, 'name-invalid'],
    ['a name that is too long with its host', { ns: 'ghcr.io', name: 'a'.repeat(255) }, 'name-invalid'],
    ["another upstream's tree under ns", { ns: 'docker.io', name: 'ghcr.io/o/i' }, 'name-unknown'],
    [
      "another upstream's tree under its port",
      { ns: 'docker.io', name: 'registry.local__5000/i' },
      'name-unknown',
    ],
    ["another upstream's tree on the default", { name: 'registry.local__5000/i' }, 'name-unknown'],
  ])('%s', (_, query, expected) => {
    expect(outcome(around, query)).toBe(expected);
  });

  it('leaves the bare names of a private default that merely stands for docker.io', () => {
    const directory = new UpstreamDirectory([entry('docker.io', { isDefault: true, library: 'explicit' })]);
    expect(outcome(directory, { name: 'app' })).toBe('docker.io app app');
    expect(outcome(directory, { name: 'team.x/app' })).toBe('docker.io team.x/app team.x/app');
    expect(outcome(directory, { ns: 'docker.io', name: 'app' })).toBe('docker.io library/app library/app');
    expect(outcome(directory, { name: 'docker.io/app' })).toBe('docker.io library/app library/app');
  });

  it('knows no name without a default', () => {
    const directory = new UpstreamDirectory([ghcr]);
    expect(outcome(directory, { name: 'o/i' })).toBe('name-unknown');
    expect(outcome(directory, { name: 'ghcr.io/o/i' })).toBe('ghcr.io o/i ghcr.io/o/i');
  });

  it('never leads to a name that the grammar does not allow, nor into the tree of another', () => {
    const part = fc.constantFrom(
      'a',
      'ghcr.io',
      'docker.io',
      'registry.local:5000',
      'registry.local__5000',
      '..',
      '',
      '_',
      'A',
      '%2f',
      'localhost',
      'x'.repeat(200),
    );
    const name = fc.oneof(
      fc.string(),
      fc.array(part, { maxLength: 5 }).map((parts) => parts.join('/')),
    );
    const some = <T>(values: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
      fc.option(values, { nil: undefined });
    const query = fc.record({
      ns: some(fc.oneof(part, fc.string())),
      hostHeader: some(fc.oneof(fc.string(), fc.constant('mirror.example.com:8443'))),
      name,
    });
    expect(() => fc.assert(fc.property(query, isSound), { numRuns: 2000 })).not.toThrow();
  });
});

describe('the list of upstreams', () => {
  it.each<[string, DirectoryEntry[]]>([
    ['two defaults', [hub, entry('ghcr.io', { isDefault: true })]],
    ['two of one host', [ghcr, entry('GHCR.io')]],
    ['two of one alias', [ghcr, entry('x.example', { aliases: ['docker.pkg.github.com'] })]],
    ['two of Docker Hub', [hub, entry('index.docker.io')]],
    ['two for one host of the mirror', [quay, entry('x.example', { hosts: ['Quay.mirror.example.com'] })]],
    ['two that share a tree', [local, entry('registry.local__5000')]],
    ['a host that cannot stand in a name', [entry('[::1]:5000')]],
  ])('refuses %s', (_, entries) => {
    expect(() => new UpstreamDirectory(entries)).toThrow(TypeError);
  });
});

describe('the name of an image', () => {
  const directory = new UpstreamDirectory([hub, ghcr, local]);

  it.each([
    ['library/alpine', 'library/alpine'],
    ['ghcr.io/o/i', 'ghcr.io/o/i'],
    ['registry.local__5000/x', 'registry.local:5000/x'],
    ['gone.example__5000/x', 'gone.example__5000/x'],
    ['ghcr.io', 'ghcr.io'],
  ])('%s is shown as %s', (stored, shown) => {
    expect(directory.imageName(stored as Repository)).toBe(shown);
  });

  it.each(['library/alpine', 'ghcr.io/o/i', 'registry.local__5000/x'])('of %s leads back there', (stored) => {
    expect(directory.route({ name: directory.imageName(stored as Repository) }).stored).toBe(stored);
  });
});

describe('library/', () => {
  it.each([
    ['docker.io', 'https://registry-1.docker.io', true, false, 'always'],
    ['docker.io', 'https://registry.corp.example', true, false, 'explicit'],
    ['docker.io', 'https://registry.corp.example', true, true, 'always'],
    ['docker.io', undefined, true, false, 'explicit'],
    ['docker.io', 'https://registry.corp.example', false, false, 'always'],
    ['registry.corp.example', 'https://registry.corp.example', true, true, 'never'],
    ['ghcr.io', 'https://ghcr.io', false, false, 'never'],
  ] as const)('%s at %s (default %s, said %s): %s', (host, url, isDefault, hostexplicit, expected) => {
    expect(libraryRule({ host, url, isDefault, hostexplicit })).toBe(expected);
  });
});
