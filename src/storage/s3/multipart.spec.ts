import { describe, expect, it } from 'vitest';
import { partSize } from './multipart.js';

const MiB = 2 ** 20;

describe('parts', () => {
  it('are as large as configured where that is enough', () => {
    expect(partSize(1, 10 * MiB, 50 * MiB)).toBe(10 * MiB);
    expect(partSize(3, 10 * MiB, 100_000 * MiB)).toBe(10 * MiB);
  });

  it('are larger where the blob would not fit into 10,000 of them', () => {
    const size = 5 * 2 ** 40;
    expect(partSize(1, 10 * MiB, size) * 10_000).toBeGreaterThanOrEqual(size);
  });

  it('grow where the size is not known, so that the largest object fits', () => {
    let total = 0;
    for (let number = 1; number <= 10_000; number += 1) total += partSize(number, 5 * MiB, undefined);
    expect(total).toBeGreaterThanOrEqual(5 * 2 ** 40);
    expect(partSize(1, 5 * MiB, undefined)).toBe(5 * MiB);
    expect(partSize(10_000, 2 ** 32, undefined)).toBe(5 * 2 ** 30);
  });
});
