import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

export interface Witness extends AsyncDisposable {
  readonly url: string;
  /** Requests answered so far. */
  requests(): number;
  /** Every byte that arrived, on whatever connection. */
  heard(): string;
}

const end = '\r\n\r\n';

/**
 * A host that is not the registry's: it hears every byte that is sent to it and gives each request the same answer. On
 * another loopback address, as another port alone would be the same host.
 */
export async function startWitness(answer: {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
}): Promise<Witness> {
  const chunks: Buffer[] = [];
  const open = new Set<Socket>();
  let requests = 0;
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    let request = '';
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      request += chunk.toString('latin1');
      if (!request.includes(end)) return;
      requests += 1;
      const headers = {
        'content-length': Buffer.byteLength(answer.body),
        connection: 'close',
        ...answer.headers,
      };
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
      socket.write([`HTTP/1.1 ${answer.status} Witness`, ...lines].join('\r\n') + end);
      socket.end(answer.body);
    });
  });
  server.listen(0, '127.0.0.2');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.2:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    heard: () => Buffer.concat(chunks).toString('latin1'),
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
