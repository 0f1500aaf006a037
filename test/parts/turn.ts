import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/**
 * Until it is this process' turn at what several test files share; others wait until it is disposed of, or the process
 * has ended, as the kernel tells them.
 */
export async function takeTurn(name: string): Promise<Disposable> {
  const path = `\0cistern-test-${createHash('sha256').update(name).digest('hex')}`;
  for (;;) {
    const waiting = new Set<Socket>();
    const server = createServer((socket) => waiting.add(socket.on('error', () => socket.destroy())));
    try {
      await once(server.listen(path), 'listening');
      return {
        [Symbol.dispose]: () => {
          server.close();
          for (const socket of waiting) socket.destroy();
        },
      };
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'EADDRINUSE') throw error;
      await untilGone(path);
    }
  }
}

async function untilGone(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = connect(path);
  socket.once('close', () => resolve());
  socket.on('error', () => socket.destroy()); // it went before
  socket.resume();
  await promise;
}
