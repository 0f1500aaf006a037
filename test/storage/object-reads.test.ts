import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ObjectReads } from '../../src/storage/s3/object-reads.js';
import { SignedAddresses } from '../../src/storage/s3/signed-addresses.js';
import { StorageError, type OpenBlob } from '../../src/storage/storage.js';
import { type PemPair, makeCertificate, readPemPair } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { randomBytes } from '../parts/random-bytes.js';

const content = randomBytes(3_000_000, 'object');

/** Answers each request by what the test says, on a bare socket: what no real server would send is sent here. */
let answer: (socket: Socket, request: string) => void;
let server: Server;
let sockets: Socket[];
let signed: number;
let reads: ObjectReads;

const whole = (bytes: Uint8Array, ...headers: string[]) =>
  Buffer.concat([
    Buffer.from(
      `${['HTTP/1.1 200 OK', `Content-Length: ${bytes.byteLength}`, ...headers].join('\r\n')}\r\n\r\n`,
    ),
    bytes,
  ]);

describe.each(['http', 'https'])('over %s', (protocol) => {
  const isTls = protocol === 'https';
  describe.skipIf(isTls && lacks('openssl'))('a bucket', () => {
    let tls: (PemPair & { readonly ca: string }) | undefined;

    beforeAll(async () => {
      if (!isTls) return;
      await using folder = await temporaryFolder();
      const authority = await makeCertificate(folder.path, 'authority');
      const own = await makeCertificate(folder.path, 'bucket', authority);
      tls = { ...(await readPemPair(own)), ca: await readFile(authority.certificate, 'utf8') };
    });

    beforeEach(async () => {
      answer = (socket) => void socket.write(whole(content));
      sockets = [];
      signed = 0;
      const connected = (socket: Socket): void => {
        sockets.push(socket);
        socket.on('error', () => undefined); // the other side closes in the middle of bodies
        let request = '';
        socket.on('data', (chunk) => {
          request += chunk.toString('latin1');
          if (!request.endsWith('\r\n\r\n')) return;
          const asked = request;
          request = '';
          answer(socket, asked);
        });
      };
      server = tls === undefined ? createServer(connected) : createTlsServer(tls, connected);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const addresses = new SignedAddresses((key) => {
        signed += 1;
        return Promise.resolve({
          url: `${protocol}://127.0.0.1:${port}/bucket/${key}?X-Amz-Signature=s`,
          until: undefined,
        });
      });
      reads = new ObjectReads(addresses, { rejectUnauthorized: true, ...(tls && { ca: tls.ca }) }, 'cistern');
    });

    afterEach(async () => {
      reads.close();
      for (const socket of sockets) socket.destroy();
      const closed = once(server, 'close');
      server.close();
      await closed;
    });

    async function found(range?: { start: number; end: number }): Promise<OpenBlob> {
      const blob = await reads.open('key', range);
      if (blob === undefined || blob === 'unclear') throw new Error(`the object is ${blob}`);
      return blob;
    }

    async function bytesOf(blob: OpenBlob): Promise<Buffer> {
      const chunks: Buffer[] = [];
      for await (const chunk of blob.body) chunks.push(Buffer.from(chunk));
      return Buffer.concat(chunks);
    }

    describe('an object', () => {
      it('is read by one signed address over one connection, again and again', async () => {
        const requests: string[] = [];
        answer = (socket, request) => {
          requests.push(request.slice(0, request.indexOf('\r\n')));
          socket.write(whole(requests.length === 2 ? content.subarray(0, 5) : content));
        };
        for (const size of [content.byteLength, 5, content.byteLength]) {
          const blob = await found();
          expect(blob.size).toBe(size);
          expect((await bytesOf(blob)).equals(content.subarray(0, size))).toBe(true);
        }
        expect(requests).toEqual(Array(3).fill('GET /bucket/key?X-Amz-Signature=s HTTP/1.1'));
        expect(sockets).toHaveLength(1);
        expect(signed).toBe(1);
      });

      it('is read in a range', async () => {
        answer = (socket, request) => {
          expect(request).toContain('\r\nRange: bytes=10-19\r\n');
          const head =
            'HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\nContent-Range: bytes 10-19/3000000\r\n\r\n';
          socket.write(Buffer.concat([Buffer.from(head), content.subarray(10, 20)]));
        };
        const blob = await found({ start: 10, end: 19 });
        expect(blob).toMatchObject({ size: 3_000_000, range: { start: 10, end: 19 } });
        expect((await bytesOf(blob)).equals(content.subarray(10, 20))).toBe(true);
      });

      it('is whole however its bytes are cut up', async () => {
        const bytes = whole(content.subarray(0, 200));
        answer = (socket) => {
          socket.setNoDelay();
          const send = (at: number): void => {
            if (at < bytes.byteLength)
              socket.write(bytes.subarray(at, at + 3), () => setImmediate(send, at + 3));
          };
          send(0);
        };
        expect((await bytesOf(await found())).equals(content.subarray(0, 200))).toBe(true);
      });

      it('is whole for whoever takes it slowly', async () => {
        const blob = await found();
        const chunks: Buffer[] = [];
        for await (const chunk of blob.body) {
          for (let turns = 0; turns < 3; turns += 1) await turn(); // more arrives meanwhile
          chunks.push(Buffer.from(chunk));
        }
        expect(Buffer.concat(chunks).equals(content)).toBe(true);
      });

      it('comes no faster than it is taken', async () => {
        const large = whole(Buffer.alloc(16 * 2 ** 20));
        answer = (socket) => void socket.write(large);
        const blob = await found();
        const chunks = blob.body[Symbol.asyncIterator]();
        await chunks.next();
        const drained = once(sockets[0] as Socket, 'drain').then(() => 'all is sent');
        const aWhile = new Promise((resolve) => setTimeout(resolve, 300, 'the rest waits'));
        expect(await Promise.race([drained, aWhile])).toBe('the rest waits');
        while ((await chunks.next()).done !== true);
        await drained;
      });

      it('leaves a connection that the server has closed for a new one', async () => {
        await bytesOf(await found());
        const closed = once(sockets[0] as Socket, 'close');
        sockets[0]?.end();
        await closed;
        expect((await bytesOf(await found())).equals(content)).toBe(true);
        expect(sockets).toHaveLength(2);
      });

      it('is asked for again where the server closes a kept connection at that moment', async () => {
        await bytesOf(await found());
        answer = (socket) => {
          if (socket === sockets[0]) socket.destroy();
          else socket.write(whole(content));
        };
        expect((await bytesOf(await found())).equals(content)).toBe(true);
        expect(sockets).toHaveLength(2);
      });

      it('does not keep a connection that the server is about to close, or whose body was not taken', async () => {
        answer = (socket) => void socket.write(whole(content, 'Connection: close'));
        await bytesOf(await found());
        answer = (socket) => void socket.write(whole(content));
        await (await found()).close();
        await bytesOf(await found());
        expect(sockets).toHaveLength(3);
      });

      it('breaks off where its body does', async () => {
        answer = (socket) => void socket.write(whole(content).subarray(0, 2_000_000), () => socket.destroy());
        await expect(bytesOf(await found())).rejects.toThrow(StorageError);
      });

      it('breaks off where more comes than was announced', async () => {
        const surplus = Buffer.concat([whole(content), Buffer.from('HTTP/1.1 200 OK\r\n')]);
        answer = (socket) => void socket.write(surplus);
        await expect(bytesOf(await found())).rejects.toThrow(StorageError);
      });

      it('is absent where the server says so', async () => {
        const error = Buffer.from('<Error><Code>NoSuchKey</Code></Error>');
        const head = `HTTP/1.1 404 Not Found\r\nContent-Length: ${error.byteLength}\r\n\r\n`;
        answer = (socket) => void socket.write(Buffer.concat([Buffer.from(head), error]));
        expect(await reads.open('key', undefined)).toBeUndefined();
        expect(await reads.open('key', undefined)).toBeUndefined();
        expect(sockets).toHaveLength(1);
      });
    });

    describe('whoever knows more is to be asked', () => {
      it.each([
        ['an absent bucket', 'HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\n\r\n<Code>NoSuchBucket</Code>'],
        ['a refusal', 'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'],
        ['a server that is busy', 'HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n'],
        ['another place', 'HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n'],
        ['a body without a length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
        ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
        ['a head without end', `HTTP/1.1 200 OK\r\nA: ${'a'.repeat(40_000)}`],
      ])('about %s', async (_, text) => {
        answer = (socket) => void socket.write(text);
        expect(await reads.open('key', undefined)).toBe('unclear');
      });

      it('and the address is signed anew after a refusal', async () => {
        answer = (socket) => void socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
        await reads.open('key', undefined);
        answer = (socket) => void socket.write(whole(content));
        await bytesOf(await found());
        expect(signed).toBe(2);
      });

      it('about a server that cannot be reached', async () => {
        server.close();
        expect(await reads.open('key', undefined)).toBe('unclear');
        server = createServer().listen(0, '127.0.0.1');
        await once(server, 'listening');
      });
    });

    it('is trouble where the server is silent', async () => {
      answer = () => undefined;
      await expect(reads.open('key', undefined)).rejects.toThrow(StorageError);
    });
  });
});
