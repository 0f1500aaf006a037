import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from './debian.js';
import { freePort, waitForPort } from './ports.js';
import { startProcess, untilReady } from './process.js';

export interface Nginx extends AsyncDisposable {
  readonly url: string;
}

/** Starts nginx on loopback with one server block: `server` is its content besides `listen`. Writes to the folder. */
export async function startNginx(folder: string, server: string): Promise<Nginx> {
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  const config = join(folder, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  );
  await writeFile(
    config,
    `${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes auto;
pid ${join(folder, 'pid')};
error_log ${join(folder, 'error.log')};
events {}
http {
  ${temporary.join(' ')}
  access_log ${join(folder, 'access.log')};
  server { listen 127.0.0.1:${port}; ${server} }
}
`,
  );
  await using cleanup = new AsyncDisposableStack();
  const log = join(folder, 'error.log');
  const running = cleanup.use(await startProcess(commandOf('nginx'), ['-c', config, '-e', log]));
  await untilReady(running, 'nginx', (signal) => waitForPort(port, signal));
  const owned = cleanup.move();
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
