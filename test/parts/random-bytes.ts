import { createCipheriv, createHash } from 'node:crypto';

/** Bytes that do not compress and that the seed alone decides. */
export function randomBytes(size: number, seed: string): Buffer {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
}
