/** A file of a layer: its content, and its mode where that is not 0644. A `link` is a hard link to another path, and makes that 0755. */
export type TarEntry =
  string | Uint8Array | { readonly bytes: Uint8Array; readonly mode: number } | { readonly link: string };

const block = 512;

/** A tar archive (POSIX ustar) whose bytes depend on its entries alone: no times, no owners. Paths up to 100 bytes. */
export function tar(entries: Readonly<Record<string, TarEntry>>): Buffer {
  const parts = Object.entries(entries).flatMap(([path, entry]) => {
    if (typeof entry === 'object' && 'link' in entry) return [header(path, 0, 0o755, entry.link)];
    const { bytes, mode } = contentOf(entry);
    return [header(path, bytes.byteLength, mode, undefined), bytes, Buffer.alloc(padding(bytes.byteLength))];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * block)]);
}

function contentOf(entry: Exclude<TarEntry, { readonly link: string }>): { bytes: Uint8Array; mode: number } {
  if (typeof entry === 'string') return { bytes: Buffer.from(entry), mode: 0o644 };
  return entry instanceof Uint8Array ? { bytes: entry, mode: 0o644 } : entry;
}

function padding(size: number): number {
  return (block - (size % block)) % block;
}

function header(path: string, size: number, mode: number, link: string | undefined): Buffer {
  if (Buffer.byteLength(path) > 100) throw new Error(`path too long for this tar: ${path}`);
  const bytes = Buffer.alloc(block);
  bytes.write(path, 0);
  bytes.write(octal(mode, 7), 100);
  bytes.write(octal(0, 7), 108); // owner
  bytes.write(octal(0, 7), 116); // group
  bytes.write(octal(size, 11), 124);
  bytes.write(octal(0, 11), 136); // time
  bytes.write(' '.repeat(8), 148); // the checksum counts itself as spaces
  bytes.write(link === undefined ? '0' : '1', 156);
  bytes.write(link ?? '', 157);
  bytes.write('ustar\u000000', 257, 'latin1');
  const checksum = bytes.reduce((sum, byte) => sum + byte, 0);
  bytes.write(`${octal(checksum, 6)}\u0000 `, 148, 'latin1');
  return bytes;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
