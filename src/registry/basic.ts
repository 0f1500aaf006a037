export interface BasicCredentials {
  readonly username: string;
  /** Secret. */
  readonly password: string;
}

/** `Authorization` of the Basic scheme (RFC 7617); `undefined` where it is another one, or malformed. */
export function parseBasic(header: string | undefined): BasicCredentials | undefined {
  const encoded = header === undefined ? undefined : /^basic +([A-Za-z0-9+/=]+)$/i.exec(header)?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon === -1 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
