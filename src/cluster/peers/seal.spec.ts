import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Seal } from './seal.js';

const parts = {
  attempt: 'a'.repeat(32),
  digest: `sha256:${'b'.repeat(64)}`,
  offset: 7,
  nonce: 'c'.repeat(32),
};

describe('the seal between replicas', () => {
  it('proves a request to who has the same secret, and to nobody else', () => {
    const mac = new Seal('secret').request(parts);
    expect(new Seal('secret').isRequest(parts, mac)).toBe(true);
    expect(new Seal('other').isRequest(parts, mac)).toBe(false);
  });

  it.each([
    ['attempt', { attempt: 'd'.repeat(32) }],
    ['digest', { digest: `sha256:${'e'.repeat(64)}` }],
    ['offset', { offset: 8 }],
    ['nonce', { nonce: 'f'.repeat(32) }],
  ])('holds for one %s', (_part, other) => {
    const seal = new Seal('secret');
    expect(seal.isRequest({ ...parts, ...other }, seal.request(parts))).toBe(false);
  });

  it('binds a message to its stream and its place there', () => {
    const seal = new Seal('secret');
    const mac = seal.message(parts.nonce, 3, 'text');
    expect(seal.isMessage(parts.nonce, 3, 'text', mac)).toBe(true);
    expect(seal.isMessage(parts.nonce, 4, 'text', mac)).toBe(false);
    expect(seal.isMessage('9'.repeat(32), 3, 'text', mac)).toBe(false);
    expect(seal.isMessage(parts.nonce, 3, 'texts', mac)).toBe(false);
  });

  it('does not take one kind for the other', () => {
    const seal = new Seal('secret');
    expect(seal.isRequest(parts, seal.message(parts.nonce, 0, ''))).toBe(false);
  });

  it('takes any other text for what it is', () => {
    const seal = new Seal('secret');
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (mac) => {
        expect(seal.isRequest(parts, mac)).toBe(false);
      }),
    );
  });

  it('makes a nonce once', () => {
    const seal = new Seal('secret');
    expect(new Set(Array.from({ length: 100 }, () => seal.newNonce())).size).toBe(100);
  });
});
