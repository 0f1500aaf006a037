import { createConnection } from 'node:net';

/**
 * Clients in a process of their own, so that they take no time from the upstream: each pulls everything from its base.
 * They read into one buffer and look at no byte of the bodies, so that a hundred of them leave the machine to those
 * who are measured.
 */
const { bases, contents } = JSON.parse(process.argv[2] ?? '') as Pull;
interface Pull {
  readonly bases: readonly string[];
  readonly contents: readonly Wanted[];
}
interface Wanted {
  readonly path: string;
  readonly size: number;
}

const buffer = Buffer.allocUnsafeSlow(256 * 1024);

// Each client three at once, as containerd has it.
async function pull(base: string): Promise<void> {
  const queue = [...contents];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await download(base, next);
  };
  await Promise.all([worker(), worker(), worker()]);
}

/** One GET on a connection of its own. Throws unless it is answered with 200 and exactly so many bytes. */
function download(base: string, { path, size }: Wanted): Promise<void> {
  const { host, hostname, port } = new URL(base);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let head = '';
  let bytes = -1; // the head is not over yet
  const socket = createConnection({
    host: hostname,
    port: Number(port),
    onread: {
      buffer,
      callback: (length) => {
        if (bytes >= 0) bytes += length;
        else {
          head += buffer.toString('latin1', 0, length);
          const end = head.indexOf('\r\n\r\n');
          if (end >= 0) bytes = head.length - end - 4;
        }
        return true;
      },
    },
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  socket.once('error', reject);
  socket.once('close', () => {
    if (head.startsWith('HTTP/1.1 200 ') && bytes === size) resolve();
    else reject(new Error(`GET ${base}${path} gave ${head.slice(9, 12)} and ${bytes} bytes, not ${size}`));
  });
  return promise;
}

const started = performance.now();
await Promise.all(bases.map(pull));
process.stdout.write(String((performance.now() - started) / 1000));
