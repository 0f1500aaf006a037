import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from '../test/parts/debian.js';
import { freePort, waitForPort } from '../test/parts/ports.js';
import { startProcess } from '../test/parts/process.js';

export interface FileServer extends AsyncDisposable {
  readonly url: string;
}

/** nginx with `sendfile` on all files below `root`: what a machine can do that has nothing to decide. */
export async function startNginx(folder: string, root: string): Promise<FileServer> {
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
  sendfile on;
  tcp_nopush on;
  server { listen 127.0.0.1:${port}; root ${root}; }
}
`,
  );
  const running = await startProcess(commandOf('nginx'), ['-c', config, '-e', join(folder, 'error.log')]);
  await using cleanup = new AsyncDisposableStack();
  cleanup.use(running);
  await waitForPort(port, AbortSignal.timeout(20_000));
  const owned = cleanup.move();
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
