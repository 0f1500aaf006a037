import { describe, expect, it } from 'vitest';
import type { ClientSetup } from './client-files.js';
import {
  mirrorsIn,
  parseToml,
  readCriRegistries,
  tableAt,
  withConfigPath,
  withMirror,
} from './containerd-files.js';
import { mirrorAt } from './hosts.js';

const setup: ClientSetup = { mirror: mirrorAt(true, 'mirror.example.com'), ownCa: false, fallback: true };
const folder = '/etc/containerd/certs.d';

describe('hosts.toml', () => {
  it('names the mirror, and nobody after it where that is wished', () => {
    expect(mirrorsIn(withMirror(undefined, setup))).toEqual(['https://mirror.example.com']);
    const alone = parseToml(withMirror('', { ...setup, fallback: false, ownCa: true }));
    expect(alone).toEqual({
      server: 'https://mirror.example.com',
      capabilities: ['pull', 'resolve'],
      ca: '../mirror.example.com/ca.crt',
    });
  });

  it('of somebody else gets the mirror in front of its hosts, and keeps all that it says', () => {
    const byHand =
      'server = "https://ghcr.io" # ours\n\n[host."https://other.example"]\n  skip_verify = true';
    const merged = withMirror(byHand, setup);
    expect(mirrorsIn(merged)).toEqual([
      'https://mirror.example.com',
      'https://other.example',
      'https://ghcr.io',
    ]);
    expect(parseToml(merged)).toMatchObject({
      server: 'https://ghcr.io',
      host: { 'https://other.example': { skip_verify: true } },
    });
    expect(merged).toContain('# ours');
    expect(withMirror(merged, setup)).toBe(merged);
  });

  it('that is no TOML is refused', () => {
    expect(() => withMirror('server: x', setup)).toThrow(expect.objectContaining({ code: 'unreadable' }));
  });
});

describe("containerd's configuration", () => {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';

  it.each<[string, string]>([
    ['is empty', ''],
    ['has other tables', `version = 2\n[${cri}]\n  sandbox_image = "pause"\n[debug]\n  level = "info"`],
    ['has an empty path', `version = 2\n[${cri}.registry]\n  config_path = ""\n[debug]\n  level = "info"\n`],
    [
      'has a table of registries',
      `version = 2\n[${cri}.registry] # here\n  [${cri}.registry.headers]\n    A = ["b"]\n`,
    ],
    [
      'is of version 3',
      `version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = ''\n`,
    ],
  ])('gets the path where it %s', (_, config) => {
    const changed = withConfigPath(config, folder);
    expect(readCriRegistries(changed).folders).toEqual([folder]);
    // Everything else means what it meant.
    const section = config.includes('= 3') ? 'io.containerd.cri.v1.images' : 'io.containerd.grpc.v1.cri';
    const registry = { ...tableAt(parseToml(changed), 'plugins', section, 'registry'), config_path: '' };
    const before = tableAt(parseToml(config), 'plugins', section, 'registry');
    expect(registry).toEqual({ ...before, config_path: '' });
    expect(changed.includes('level = "info"')).toBe(config.includes('level = "info"'));
  });

  it('that names mirrors the older way, or serves no CRI, is told apart', () => {
    const older = `version = 2\n[${cri}.registry.mirrors."docker.io"]\n  endpoint = ["https://o"]\n`;
    expect(readCriRegistries(older)).toEqual({ folders: [], older: true, disabled: false });
    expect(readCriRegistries('disabled_plugins = ["cri"]')).toMatchObject({ disabled: true });
    const two = `version = 2\n[${cri}.registry]\nconfig_path = "/a:/b"\n`;
    expect(readCriRegistries(two).folders).toEqual(['/a', '/b']);
  });

  it('is refused where the path stands in a form that is not understood', () => {
    const inline = `version = 2\n[plugins]\n  "io.containerd.grpc.v1.cri" = {registry = {config_path = ""}}\n`;
    expect(() => withConfigPath(inline, folder)).toThrow(expect.objectContaining({ code: 'unreadable' }));
  });
});
