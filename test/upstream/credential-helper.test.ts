import { expect, it } from 'vitest';
import { runProcess } from '../parts/process.js';

const helper = new URL('../../dist/upstream/credential-helper.js', import.meta.url).href;

/** Asks a helper while the process has no free descriptor, and again later. */
const script = `
import { closeSync, openSync } from 'node:fs';
import { CredentialHelper } from '${helper}';
process.on('uncaughtException', ({ code }) => process.stdout.write('unhandled ' + code + '\\n'));
const log = { info() {}, warn() {}, error() {} };
let time = 0;
const command = process.argv[1];
const helper = new CredentialHelper({ command, server: 's', env: {}, host: 'h', log, now: () => time });
const ask = () => helper.login().then(({ username }) => username, ({ message }) => message);
process.stdout.write('begins\\n');
const open = [];
try {
  for (;;) open.push(openSync('/dev/null'));
} catch {}
const first = await ask();
for (const each of open) closeSync(each);
time = 60_000;
process.stdout.write(first + '\\n' + (await ask()) + '\\n');
`;

it('a credential helper fails while no descriptor is free, and is asked again later', async () => {
  const program = `/bin/echo`;
  const { stdout } = await runProcess('sh', [
    '-c',
    'ulimit -n 64; exec "$@"',
    'sh',
    process.execPath,
    '--input-type=module',
    '--eval',
    script,
    program,
  ]);
  expect(stdout.split('\n')).toEqual([
    'begins',
    'cannot be run (EMFILE)',
    'answered without Username and Secret',
    '',
  ]);
});
