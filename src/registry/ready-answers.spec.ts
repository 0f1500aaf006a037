import { describe, expect, it } from 'vitest';
import type { RepeatedAnswer } from './access.js';
import { ReadyAnswers, type ReadyAnswer } from './ready-answers.js';

const MiB = 1024 * 1024;

function answer(until: number, size = 0): ReadyAnswer {
  return { before: 'b', after: 'a', body: Buffer.alloc(size), until, repeated: {} as RepeatedAnswer };
}

describe('ReadyAnswers', () => {
  it('has an answer until its time is over', () => {
    const answers = new ReadyAnswers();
    answers.put('request', answer(10), 0);
    expect(answers.find('request', 9)).toBeDefined();
    expect(answers.find('request', 10)).toBeUndefined();
    expect(answers.find('another', 9)).toBeUndefined();
  });

  it('never takes more than its memory: the oldest go', () => {
    const answers = new ReadyAnswers();
    for (let count = 0; count < 400; count += 1) answers.put(`${count}`, answer(10, 100_000), 0);
    expect(answers.bytes).toBeLessThanOrEqual(16 * MiB);
    expect(answers.find('0', 1)).toBeUndefined();
    expect(answers.find('399', 1)).toBeDefined();
  });

  it('drops those that are over when another comes, and counts a replaced one once', () => {
    const answers = new ReadyAnswers();
    answers.put('old', answer(10, MiB), 0);
    answers.put('new', answer(30, 1_000), 20);
    const { bytes } = answers;
    expect(bytes).toBeLessThan(MiB);
    answers.put('new', answer(40, 1_000), 25);
    expect(answers.bytes).toBe(bytes);
    answers.clear();
    expect(answers.bytes).toBe(0);
  });

  it('takes a request for repeated when it came within the last seconds, or is there', () => {
    const answers = new ReadyAnswers();
    expect(answers.isRepeated('request', 0)).toBe(false);
    expect(answers.isRepeated('request', 9_000)).toBe(true);
    expect(answers.isRepeated('request', 20_000)).toBe(false);
    answers.put('kept', answer(1), 0);
    expect(answers.isRepeated('kept', 90_000)).toBe(true);
  });
});
