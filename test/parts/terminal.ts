import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { commandOf } from './debian.js';

export interface TerminalSession {
  /** All that was shown so far, with its control characters. */
  shown(): string;
  /** As from the keyboard. */
  type(text: string): void;
  /** The command's exit code. */
  readonly ended: Promise<number>;
}

export const ctrlC = '\u0003';
const checkout = fileURLToPath(new URL('../..', import.meta.url));

/** `cistern` in a pseudo-terminal. */
export function cisternInTerminal(args: readonly string[]): TerminalSession {
  const command = ['node_modules/.bin/node', 'dist/main.js', ...args].map(quote).join(' ');
  const child = spawn(
    commandOf('script'),
    ['--quiet', '--return', '--command', `exec ${command}`, '/dev/null'],
    {
      cwd: checkout,
      env: { ...process.env, TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text));
  return {
    shown: () => shown,
    type: (text) => void child.stdin.write(text),
    ended: once(child, 'close').then(([code]) => {
      child.stdin.destroy();
      return Number(code);
    }),
  };
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
