import { secretFile } from '../config/watched-file.js';

/** A name with its password, for the Basic scheme or a token server. */
export interface Login {
  readonly username: string;
  readonly password: string;
}

/** Who the upstream knows us as. */
export interface Credentials {
  /** What its pull limit is counted for: the user name, where it is known beforehand. */
  readonly account: string;
  /**
   * As it is now; `undefined`: nobody in particular. Rejects where it cannot be had, and settles in bounded time; how
   * long a request waits is for its caller to say.
   */
  login(): Promise<Login | undefined>;
  /** The upstream did not take what was had last. */
  refused?(): void;
}

/** Why credentials cannot be had. Nothing in it is a secret. */
export type CredentialsCode =
  'helper-failed' | 'helper-silent' | 'helper-answer' | 'docker-config' | 'pull-secret';

export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  constructor(
    readonly code: CredentialsCode,
    message: string,
  ) {
    super(message);
  }
}

/** Gives the password as it is now. */
export type Password = () => string | Promise<string>;

/** The value of `Authorization` (and `Proxy-Authorization`) for the Basic scheme (RFC 7617). */
export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

export function fixedPassword(password: string): Password {
  return () => password;
}

/** A password in a file, read again when the file changes. Rejects where the file cannot be read. */
export function filePassword(path: string): Password {
  const file = secretFile(path);
  return () => file.read();
}

/** A user whose name is known. */
export function userWith(username: string, password: Password): Credentials {
  return { account: username, login: async () => ({ username, password: await password() }) };
}
