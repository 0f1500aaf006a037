import { describe, expect, it } from 'vitest';
import { readCommandLine, type Invocation } from './program.js';

function read(...args: string[]): { invocation: Invocation; out: string; err: string } {
  let out = '';
  let err = '';
  const invocation = readCommandLine(args, { out: (text) => (out += text), err: (text) => (err += text) });
  return { invocation, out, err };
}

const gc = { task: 'gc', dryRun: false, untagged: false };

describe('the command line', () => {
  it.each<[string, unknown]>([
    ['serve', { kind: 'serve', config: undefined }],
    ['serve c.yml', { kind: 'serve', config: 'c.yml' }],
    ['ls', { kind: 'task', task: { task: 'images' }, view: { json: false } }],
    ['ls --json -c c.yml', { kind: 'task', config: 'c.yml', view: { json: true } }],
    ['jobs --config c.yml', { kind: 'jobs', config: 'c.yml', json: false }],
    ['gc', { kind: 'task', task: gc }],
    ['gc --dry-run --delete-untagged', { kind: 'task', task: { task: 'gc', dryRun: true, untagged: true } }],
    ['verify', { kind: 'task', task: { task: 'verify', image: undefined, dryRun: false } }],
    ['verify a:1 -d', { kind: 'task', task: { task: 'verify', image: 'a:1', dryRun: true } }],
    [
      'prewarm a b --platform linux/amd64 linux/arm64',
      { kind: 'task', task: { images: ['a', 'b'], platforms: ['linux/amd64', 'linux/arm64'] } },
    ],
    [
      'prewarm --platform linux/amd64 -- a',
      { kind: 'task', task: { images: ['a'], platforms: ['linux/amd64'] } },
    ],
    ['purge a', { kind: 'task', task: { task: 'purge', image: 'a', all: false, dryRun: false } }],
    ['purge -a a', { kind: 'task', task: { all: true } }],
    ['refresh a', { kind: 'task', task: { task: 'refresh', image: 'a' } }],
    ['token', { kind: 'token', config: undefined }],
    [
      'configure-node --mirror https://m --upstream a b --runtime docker -d',
      {
        kind: 'configure-node',
        node: {
          mirror: 'https://m',
          upstream: ['a', 'b'],
          runtime: ['docker'],
          root: '/',
          fallback: true,
          dryRun: true,
        },
      },
    ],
    ['configure-node --undo --force', { kind: 'configure-node', node: { undo: true, force: true } }],
    ['configure-node --no-fallback --set-config-path', { node: { fallback: false, setConfigPath: true } }],
    ['doctor -c c.yml --json', { kind: 'doctor', config: 'c.yml', doctor: { json: true } }],
    ['doctor --node --mirror https://m', { kind: 'doctor', doctor: { node: true, root: '/' } }],
    ['healthcheck', { kind: 'healthcheck', config: undefined }],
    ['healthcheck c.yml', { kind: 'healthcheck', config: 'c.yml' }],
  ])('%s', (line, expected) => {
    expect(read(...line.split(' ')).invocation).toMatchObject(expected as object);
  });

  it.each<[string, object]>([
    ['c.yml', gc],
    ['c.yml --delete-untagged', { ...gc, untagged: true }],
    ['--delete-untagged c.yml', { ...gc, untagged: true }],
    ['--delete-untagged=true --dry-run=true c.yml', { task: 'gc', dryRun: true, untagged: true }],
    ['--delete-untagged=false c.yml', gc],
    ['-d -m c.yml', { task: 'gc', dryRun: true, untagged: true }],
    ['-dm c.yml', { task: 'gc', dryRun: true, untagged: true }],
    ['c.yml -q', gc],
  ])("registry's garbage-collect %s", (line, task) => {
    expect(read('garbage-collect', ...line.split(' ')).invocation).toMatchObject({ config: 'c.yml', task });
  });

  it.each([
    '',
    'nonsense',
    'gc a b',
    'gc --nonsense',
    'prewarm',
    'purge',
    'purge a b',
    'serve a b',
    'ls --config',
    'configure-node https://m',
    'doctor --nonsense',
  ])('%j is misuse', (line) => {
    const { invocation, out, err } = read(...line.split(' ').filter((arg) => arg !== ''));
    expect(invocation).toEqual({ kind: 'said', code: 2 });
    expect(out).toBe('');
    expect(err).not.toBe('');
  });

  it.each(['--help', 'help', 'gc --help', 'help gc'])('%s explains on standard output', (line) => {
    const { invocation, out, err } = read(...line.split(' '));
    expect(invocation).toEqual({ kind: 'said', code: 0 });
    expect(out).toContain('Usage: cistern');
    expect(err).toBe('');
  });
});
