import type { FakeUpstream } from '../fakes/fake-upstream.js';
import type { Fault } from '../fakes/fault.js';
import type { Content } from '../parts/image.js';
import { blobOf } from '../parts/mirror.js';

export interface Spoilt {
  readonly blob: Content;
  /** Below `/v2/`. */
  readonly path: string;
}

/** A new blob of so many bytes, whose first, second, … request by GET meets these faults. */
export function spoilt(
  upstream: FakeUpstream,
  size: number,
  name: string,
  faults: readonly Fault[] = [],
): Spoilt {
  const blob = blobOf(size, name);
  const path = `${name}/blobs/${blob.digest}`;
  upstream.addBlob(name, blob);
  for (const [index, fault] of faults.entries()) {
    upstream.fault({ method: 'GET', path: `/v2/${path}`, nth: index + 1 }, fault);
  }
  return { blob, path };
}
