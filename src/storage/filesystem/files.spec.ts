import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { readChunks } from './files.js';

const size = 1024 * 1024;

it('thousands of slow readers of a file hold little memory each, and what they read is right', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'files-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const bytes = Buffer.from(Array.from({ length: size }, (_, index) => index % 251));
  await writeFile(join(folder, 'file'), bytes);
  await using file = await open(join(folder, 'file'));
  const readers = Array.from({ length: 200 }, () => readChunks(file.fd, 0, size));
  const first = await Promise.all(
    readers.map(async (reader) => (await reader.next()).value?.byteLength ?? 0),
  );
  expect(first[0]).toBe(256 * 1024);
  expect(first.at(-1)).toBe(16 * 1024);
  const held = first.reduce((sum, length) => sum + 2 * length, 0);
  expect(held).toBeLessThan(16 * size);
  const rest: Uint8Array[] = [];
  for await (const chunk of readers.at(-1) ?? []) rest.push(Uint8Array.from(chunk));
  expect(Buffer.concat(rest).equals(bytes.subarray(16 * 1024))).toBe(true);
  for (const reader of readers) await reader.return(undefined);
  // Those that come after them are fast again.
  const next = readChunks(file.fd, 0, size);
  expect((await next.next()).value?.byteLength).toBe(256 * 1024);
  await next.return(undefined);
});
