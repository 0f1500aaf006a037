const longestHost = 255;
const label = '[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?';
const form = new RegExp(`^(?:${label}(?:\\.${label})*|\\[[0-9a-f:.]+\\])(?::\\d{1,5})?$`);

/**
 * A host with or without a port, in lower case: `ghcr.io`, `registry.local:5000`, `[fd00::1]:5000`. Nothing that it
 * lets through means anything to a path, a TOML or YAML text or HTML. `undefined` for everything else.
 */
export function parseHost(text: string): string | undefined {
  const host = text.toLowerCase();
  return host.length <= longestHost && form.test(host) ? host : undefined;
}

/** Where nodes reach the mirror. */
export interface MirrorAddress {
  /** `https://mirror.example.com`, without a slash at its end. */
  readonly url: string;
  /** `mirror.example.com`, with a port where it is not the scheme's own. */
  readonly host: string;
  /** Whether it is https. */
  readonly secure: boolean;
}

/** Reads `https://mirror.example.com`; a path, a query or user information is not one. */
export function parseMirror(text: string): MirrorAddress | undefined {
  const [, scheme = '', rest = ''] = /^(https?):\/\/([^/]+)\/?$/i.exec(text) ?? [];
  const host = parseHost(rest);
  if (host === undefined || URL.parse(text) === null) return undefined;
  return mirrorAt(scheme.toLowerCase() === 'https', host);
}

export function mirrorAt(secure: boolean, host: string): MirrorAddress {
  const name = host.replace(secure ? /:443$/ : /:80$/, '');
  return { url: `${secure ? 'https' : 'http'}://${name}`, host: name, secure };
}
