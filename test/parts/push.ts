import { type Content, contentsOf, type Image, type ImageIndex } from './image.js';

export interface PushTarget {
  readonly url: string;
  readonly repository: string;
  /** The whole header, `Basic …` or `Bearer …`. */
  readonly authorization?: string;
}

/** Puts an image and all that it consists of into a registry, by the push half of the distribution-spec. */
export async function pushImage(target: PushTarget, tag: string, item: Image | ImageIndex): Promise<void> {
  const { blobs, manifests } = contentsOf(item);
  for (const blob of blobs) await pushBlob(target, blob);
  for (const manifest of manifests) await pushManifest(target, manifest.digest, manifest);
  await pushManifest(target, tag, item.manifest);
}

export async function pushBlob(target: PushTarget, blob: Content): Promise<void> {
  const session = await send(target, 'POST', '/blobs/uploads/', 202);
  const location = new URL(session.headers.get('location') ?? '', session.url);
  location.searchParams.set('digest', blob.digest);
  await send(target, 'PUT', location, 201, blob.bytes, 'application/octet-stream');
}

export async function pushManifest(target: PushTarget, reference: string, manifest: Content): Promise<void> {
  await send(target, 'PUT', `/manifests/${reference}`, 201, manifest.bytes, manifest.mediaType);
}

export async function deleteManifest(target: PushTarget, digest: string): Promise<void> {
  await send(target, 'DELETE', `/manifests/${digest}`, 202);
}

async function send(
  target: PushTarget,
  method: string,
  where: string | URL,
  wanted: number,
  body?: Buffer,
  contentType?: string,
): Promise<Response> {
  const url = typeof where === 'string' ? `${target.url}/v2/${target.repository}${where}` : where;
  const response = await fetch(url, {
    method,
    headers: {
      ...(target.authorization === undefined ? {} : { authorization: target.authorization }),
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    },
    ...(body === undefined ? {} : { body: new Uint8Array(body) }),
  });
  const text = await response.text();
  if (response.status !== wanted) {
    throw new Error(`${method} ${response.url} was answered ${response.status}, not ${wanted}: ${text}`);
  }
  return response;
}
