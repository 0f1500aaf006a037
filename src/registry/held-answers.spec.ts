import { describe, expect, it } from 'vitest';
import { ClientAddresses } from './client-address.js';
import { HeldAnswers } from './held-answers.js';

const MiB = 1024 * 1024;
const from = (remoteAddress: string) => ({ headers: {}, socket: { remoteAddress } });
const answer = (mebibytes: number): Buffer => Buffer.from(new ArrayBuffer(mebibytes * MiB));
const held = (): HeldAnswers => new HeldAnswers(new ClientAddresses([]));

describe('answers that clients have not read', () => {
  it('leave room for another address', () => {
    const answers = held();
    let taken = 0;
    while (answers.take(from('192.0.2.1'), answer(4)) !== undefined) taken += 1;
    expect(taken).toBe(8);
    expect(answers.take(from('192.0.2.2'), answer(16))).toBeDefined();
    expect(answers.take(from('192.0.2.2'), answer(1))).toBeUndefined();
    expect(answers.take(from('192.0.2.3'), answer(8))).toBeDefined();
  });

  it('count once where clients share their memory, for each address too', () => {
    const answers = held();
    const shared = answer(32);
    const releases = ['192.0.2.1', '192.0.2.1', '192.0.2.2'].map((address) =>
      answers.take(from(address), shared.subarray(0, MiB)),
    );
    expect(releases).not.toContain(undefined);
    expect(answers.take(from('192.0.2.1'), answer(4))).toBeUndefined();
    const releaseOther = answers.take(from('192.0.2.3'), answer(32));
    expect(releaseOther).toBeDefined();
    releaseOther?.();
    for (const release of releases) {
      expect(answers.take(from('192.0.2.4'), answer(33))).toBeUndefined();
      release?.();
    }
    expect(answers.take(from('192.0.2.1'), answer(64))).toBeDefined();
  });

  it('bound a client of unknown address by the room of all', () => {
    const answers = held();
    expect(answers.take(from(''), answer(60))).toBeDefined();
    expect(answers.take(from(''), answer(4))).toBeDefined();
    expect(answers.take(from(''), answer(1))).toBeUndefined();
    expect(answers.take(from(''), Buffer.alloc(100))).toBeDefined();
  });
});
