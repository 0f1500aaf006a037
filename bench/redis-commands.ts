import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/**
 * Counts what replicas send to a Redis, each command within MULTI too, but neither what a script does inside nor the
 * question since when Redis knows anything: that comes by the clock, whatever is pulled.
 */
export class RedisCommands implements Disposable {
  #count = 0;

  private constructor(private readonly socket: Socket) {
    // `+1795286724.311904 [0 127.0.0.1:45786] "get" …`, `[0 lua]` for a script's; a line for each, after an OK.
    createInterface(socket).on('line', (line) => {
      if (/^\+\d+\.\d+ \[\d+ (?!lua\])/.test(line) && !line.includes(':since"')) this.#count += 1;
    });
  }

  /** `addr`: `host:port`, of a Redis without a password. */
  static async start(addr: string): Promise<RedisCommands> {
    const { hostname, port } = new URL(`tcp://${addr}`);
    const socket = connect(Number(port), hostname);
    const commands = new RedisCommands(socket);
    socket.write('MONITOR\r\n');
    await once(socket, 'data'); // the OK: from now on it sees everything
    return commands;
  }

  /** So far. */
  get count(): number {
    return this.#count;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
