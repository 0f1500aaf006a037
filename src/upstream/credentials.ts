import { readFile, stat } from 'node:fs/promises';

/** Gives the password as it is now. */
export type Password = () => string | Promise<string>;

/** Who the upstream knows us as. */
export interface Credentials {
  readonly username: string;
  readonly password: Password;
}

/** The value of `Authorization` (and `Proxy-Authorization`) for the Basic scheme (RFC 7617). */
export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

export function fixedPassword(password: string): Password {
  return () => password;
}

/**
 * A password in a file, read again when the file changes: mounted secrets are replaced while the program runs. One
 * newline at the end does not belong to it. Rejects where the file cannot be read.
 */
export function filePassword(path: string): Password {
  let known: { readonly version: string; readonly password: string } | undefined;
  return async () => {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    const version = `${ino}:${mtimeNs}:${size}`;
    if (known?.version !== version) {
      known = { version, password: (await readFile(path, 'utf8')).replace(/\r?\n$/, '') };
    }
    return known.password;
  };
}
