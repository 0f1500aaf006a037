/** What a server says before a body (RFC 9112 §2-4). */
export interface ResponseHead {
  readonly status: number;
  /** By name in lower case; those that came more than once are joined by commas. */
  readonly headers: ReadonlyMap<string, string>;
}

/** `undefined`: that is no head of HTTP/1. `text`: all lines, without the empty one at their end. */
export function parseHead(text: string): ResponseHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon < 1 || /[\s]/.test(name)) return undefined; // a folded line among them
    const value = line.slice(colon + 1).trim();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return { status: Number(status), headers };
}

/** Bytes of the body that follows; `undefined` where the head does not say it in the one plain way. */
export function bodyLength({ status, headers }: ResponseHead): number | undefined {
  if (status < 200 || status === 204 || status === 304 || headers.has('transfer-encoding')) return undefined;
  const length = headers.get('content-length') ?? '';
  return /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

/** Whether the connection may be used again after the body. HTTP/1.0 servers that would let it are left alone. */
export function staysOpen(text: string, { headers }: ResponseHead): boolean {
  return text.startsWith('HTTP/1.1') && !/\bclose\b/i.test(headers.get('connection') ?? '');
}
