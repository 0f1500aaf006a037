import { describe, expect, it } from 'vitest';
import { UpstreamDirectory } from '../upstream/directory.js';
import { imageHere } from './image-names.js';

const entry = { upstream: undefined, aliases: [], hosts: [], library: 'never' } as const;
const directory = new UpstreamDirectory([
  { ...entry, host: 'docker.io', isDefault: true, library: 'always' },
  { ...entry, host: 'ghcr.io', isDefault: false, hosts: ['ghcr.mirror.example.com'] },
  { ...entry, host: 'registry.local:5000', isDefault: false },
]);
const digest = `sha256:${'a'.repeat(64)}`;

describe('an image that runs', () => {
  it.each([
    ['nginx', 'library/nginx:latest'],
    ['team/app:1.2', 'team/app:1.2'],
    ['docker.io/library/nginx:1', 'library/nginx:1'],
    ['index.docker.io/team/app', 'team/app:latest'],
    [`ghcr.io/team/app:1@${digest}`, `ghcr.io/team/app@${digest}`],
    [`docker-pullable://nginx@${digest}`, `library/nginx@${digest}`],
    [`docker://ghcr.io/team/app@${digest}`, `ghcr.io/team/app@${digest}`],
    ['registry.local:5000/app:1', 'registry.local__5000/app:1'],
  ])('%s is stored as %s', (text, stored) => {
    expect(imageHere(text, directory)).toBe(stored);
  });

  it.each([
    ['mirror.example.com/ghcr.io/team/app:1', 'ghcr.io/team/app:1'],
    ['mirror.example.com:5000/library/nginx:1', 'library/nginx:1'],
    ['ghcr.mirror.example.com/team/app:1', 'ghcr.io/team/app:1'],
    ['localhost:5000/registry.local:5000/app:1', undefined],
  ])('%s, by a name of this mirror, is stored as %s', (text, stored) => {
    expect(imageHere(text, directory)).toBe(stored);
  });

  it.each(['', digest, `docker://${digest}`, 'Not An Image', 'mirror.example.com/quay.io/team/app:1'])(
    '%j is nothing that is stored here',
    (text) => {
      expect(imageHere(text, directory)).toBeUndefined();
    },
  );

  it('of Docker Hub is nothing to a mirror of others', () => {
    const others = new UpstreamDirectory([{ ...entry, host: 'ghcr.io', isDefault: true }]);
    expect(imageHere('nginx', others)).toBeUndefined();
    expect(imageHere('ghcr.io/team/app:1', others)).toBe('team/app:1');
  });
});
