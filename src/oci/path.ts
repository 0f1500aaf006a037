/**
 * One request below `/v2/`, parsed once. Names, references and digests are as the client sent them, percent-decoded
 * once and not yet checked against the grammar: routing may take a host off the front of a name first.
 */
export type Target =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'manifest'; readonly name: string; readonly reference: string }
  | { readonly kind: 'blob'; readonly name: string; readonly reference: string }
  | { readonly kind: 'tags'; readonly name: string }
  | { readonly kind: 'referrers'; readonly name: string; readonly reference: string }
  | { readonly kind: 'upload'; readonly name: string };

/** Those that name a repository to read from. */
export type ContentTarget = Exclude<Extract<Target, { readonly name: string }>, { readonly kind: 'upload' }>;

export interface ParsedPath {
  readonly target: Target;
  readonly query: URLSearchParams | undefined;
}

const base: Target = { kind: 'base' };
const catalog: Target = { kind: 'catalog' };

/** `undefined` where the path is none of the distribution-spec's end points. */
export function parsePath(url: string): ParsedPath | undefined {
  const mark = url.indexOf('?');
  const path = mark === -1 ? url : url.slice(0, mark);
  const target = parseTarget(path);
  if (target === undefined) return undefined;
  return { target, query: mark === -1 ? undefined : new URLSearchParams(url.slice(mark + 1)) };
}

function parseTarget(path: string): Target | undefined {
  if (path === '/v2/' || path === '/v2') return base;
  if (!path.startsWith('/v2/')) return undefined;
  if (path === '/v2/_catalog') return catalog;
  const end = path.lastIndexOf('/');
  const middle = path.lastIndexOf('/', end - 1);
  // The name ends where the last two components begin; a name may itself contain "manifests" or "blobs".
  const word = path.slice(middle + 1, end);
  const last = path.slice(end + 1);
  if (word === 'uploads') return uploadTarget(path, middle);
  const name = decode(path.slice('/v2/'.length, middle));
  const reference = decode(last);
  if (name === undefined || name === '' || reference === undefined) return undefined;
  switch (word) {
    case 'manifests':
      return { kind: 'manifest', name, reference };
    case 'blobs':
      return last === 'uploads' ? { kind: 'upload', name } : { kind: 'blob', name, reference };
    case 'referrers':
      return { kind: 'referrers', name, reference };
    case 'tags':
      return reference === 'list' ? { kind: 'tags', name } : undefined;
    default:
      return undefined;
  }
}

/** `<name>/blobs/uploads/` and `<name>/blobs/uploads/<id>`: writes, known only to be refused in the right form. */
function uploadTarget(path: string, middle: number): Target | undefined {
  const blobs = path.lastIndexOf('/', middle - 1);
  if (path.slice(blobs + 1, middle) !== 'blobs') return undefined;
  const name = decode(path.slice('/v2/'.length, blobs));
  return name === undefined || name === '' ? undefined : { kind: 'upload', name };
}

function decode(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined; // a malformed escape: no end point has such a path
  }
}
