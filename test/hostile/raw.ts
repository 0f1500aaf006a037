import { connect, type Socket } from 'node:net';

/** A connection on which a test writes and reads what it likes. */
export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** All that came, as soon as the other side ends or resets the connection. */
  readonly ended: Promise<string>;
}

export async function dial(url: string, localAddress?: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), ...(localAddress && { localAddress }) });
  socket.on('error', () => undefined); // a reset is an end like another
  let said = '';
  socket.setEncoding('latin1').on('data', (text: string) => (said += text));
  const ended = new Promise<string>((resolve) => {
    socket.once('close', () => resolve(said));
  });
  await Promise.race([ended, new Promise((resolve) => socket.once('connect', resolve))]);
  return { socket, ended, [Symbol.dispose]: () => socket.destroy() };
}

/** One request and its whole answer, on a connection of its own. */
export async function say(url: string, request: string, localAddress?: string): Promise<string> {
  using connection = await dial(url, localAddress);
  connection.socket.write(request, 'latin1');
  return await connection.ended;
}

export function get(path: string, headers: readonly string[] = []): string {
  return [`GET ${path} HTTP/1.1`, 'Host: mirror.test', 'Connection: close', ...headers, '', ''].join('\r\n');
}
