import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Display, humanBytes } from './display.js';

/** Keeps what is written. */
function screen(isTTY: boolean) {
  const kept = { isTTY, columns: 60, text: '' };
  const stream: Writable & typeof kept = Object.assign(
    new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        stream.text += chunk.toString();
        done();
      },
    }),
    kept,
  );
  return stream;
}

function displayOn(terminal: boolean) {
  const [stdout, stderr] = [screen(terminal), screen(terminal)];
  const clock = { ms: 0 };
  const display = new Display({ stdout, stderr }, () => clock.ms);
  return { display, stdout, stderr, clock };
}

const half = { doing: 'checking blobs', done: 5, total: 10 };

describe('on a terminal', () => {
  it('a bar is drawn over and over, and never wider than the terminal', () => {
    const { display, stderr, clock } = displayOn(true);
    display.progress(half);
    clock.ms += 200;
    display.progress({ ...half, done: 6 });
    expect(stderr.text).toBe(
      '\r\u001B[K[============            ] 50% checking blobs: 5 of 10' +
        '\r\u001B[K[==============          ] 60% checking blobs: 6 of 10',
    );
    stderr.text = '';
    display.progress({ doing: 'x'.repeat(200), done: 1, total: 2 });
    expect(stderr.text).toHaveLength('\r\u001B[K'.length + 59);
  });

  it('a bar makes room for results, and is gone at the end', async () => {
    const { display, stdout, stderr } = displayOn(true);
    display.progress(half);
    stderr.text = '';
    await display.result('a result');
    expect([stdout.text, stderr.text]).toEqual(['a result\n', '\r\u001B[K']);
    display.end();
    expect(stderr.text).toBe('\r\u001B[K');
  });

  it('is not drawn more often than can be seen', () => {
    const { display, stderr } = displayOn(true);
    for (let done = 0; done < 10; done += 1) display.progress({ ...half, done });
    expect(stderr.text.split('\r')).toHaveLength(2);
  });
});

describe('elsewhere', () => {
  it('there is a line for each new thing, and one now and then', () => {
    const { display, stderr, clock } = displayOn(false);
    display.progress({ doing: 'listing blobs', done: 0, total: undefined });
    display.progress({ doing: 'listing blobs', done: 500, total: undefined });
    display.progress(half);
    clock.ms += 10_000;
    display.progress({ ...half, done: 9 });
    display.end();
    expect(stderr.text).toBe('listing blobs\nchecking blobs: 5 of 10\nchecking blobs: 9 of 10\n');
  });
});

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [999_949, '999.9 kB'],
  [999_960, '1.0 MB'],
  [1_234_567_890, '1.2 GB'],
  [5e18, '5000.0 PB'],
])('%d bytes are %s', (bytes, expected) => {
  expect(humanBytes(bytes)).toBe(expected);
});
