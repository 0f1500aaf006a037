import { parseDigest, type Digest } from './digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from './name.js';

/** An image as users name it: `nginx`, `ghcr.io/o/i:1.2`, `localhost:5000/x@sha256:…`. */
export interface ImageReference {
  /** In lower case; `undefined`: the text names none, so it is the default's. */
  readonly host: string | undefined;
  /** As it is written: Docker Hub's `library/` is for whoever routes it. */
  readonly name: Repository;
  /** `undefined` beside a digest where none is written; else `latest`. */
  readonly tag: Tag | undefined;
  /** Decides where both are written, as in docker. */
  readonly digest: Digest | undefined;
}

const latest = 'latest' as Tag;
const hostGrammar =
  /^(?:(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*|\[[0-9a-f:]+\])(?::\d{1,5})?$/;

/** `undefined` where the text is no reference by docker's rules (distribution/reference, "Grammar"). */
export function parseReference(text: string): ImageReference | undefined {
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : parseDigest(text.slice(at + 1));
  if (at !== -1 && digest === undefined) return undefined;
  const rest = at === -1 ? text : text.slice(0, at);
  // A colon before the last slash belongs to a port.
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  const tag = colon === -1 ? undefined : parseTag(rest.slice(colon + 1));
  if (colon !== -1 && tag === undefined) return undefined;
  const path = colon === -1 ? rest : rest.slice(0, colon);
  const slash = path.indexOf('/');
  const hosted = slash !== -1 && isHost(path.slice(0, slash));
  const host = hosted ? path.slice(0, slash).toLowerCase() : undefined;
  if (host !== undefined && !hostGrammar.test(host)) return undefined;
  const name = parseRepository(hosted ? path.slice(slash + 1) : path);
  if (name === undefined) return undefined;
  return { host, name, tag: tag ?? (digest === undefined ? latest : undefined), digest };
}

/** As docker tells a host from the first part of a name (distribution/reference, splitDockerDomain). */
function isHost(component: string): boolean {
  return (
    component.includes('.') ||
    component.includes(':') ||
    component === 'localhost' ||
    component.toLowerCase() !== component
  );
}
