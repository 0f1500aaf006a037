import { describe, expect, it } from 'vitest';
import { BufferPool, giveUp, poolWithRoom } from './buffer-pool.js';

describe('a pool of buffers', () => {
  it('uses again what was given back, and frees what it does not keep at once', () => {
    const pool = new BufferPool(1024, 1);
    const [first, second] = [pool.take(), pool.take()];
    expect(pool.taken).toBe(2);
    pool.give(first);
    pool.give(second);
    expect(pool.taken).toBe(0);
    expect(second.byteLength).toBe(0);
    expect(pool.take()).toBe(first);
    expect(first.byteLength).toBe(1024);
  });

  it('is the first that has room, and else the last one', () => {
    const [large, small] = [new BufferPool(1024, 1), new BufferPool(16, 1)];
    const choose = () => poolWithRoom([{ pool: large, most: 1 }], small);
    expect(choose()).toBe(large);
    const buffer = large.take();
    expect(choose()).toBe(small);
    large.give(buffer);
    expect(choose()).toBe(large);
  });
});

describe('a chunk that is given up', () => {
  it('is freed where its memory is its own, and left alone where others may use that', () => {
    const whole = new Uint8Array(8);
    const part = new Uint8Array(new ArrayBuffer(16), 0, 8);
    giveUp(whole);
    giveUp(part);
    expect(whole.byteLength).toBe(0);
    expect(part.byteLength).toBe(8);
  });
});
