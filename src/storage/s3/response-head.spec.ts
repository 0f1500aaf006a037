import { describe, expect, it } from 'vitest';
import { bodyLength, parseHead, staysOpen } from './response-head.js';

const head = (...lines: string[]) => parseHead(lines.join('\r\n'));

describe('the head of an answer', () => {
  it('is its status and its headers by lower-case names', () => {
    const found = head('HTTP/1.1 206 Partial Content', 'Content-Length: 10', 'ETAG:"a"', 'x-a: 1', 'X-A: 2');
    expect(found?.status).toBe(206);
    expect([...(found?.headers ?? [])]).toEqual([
      ['content-length', '10'],
      ['etag', '"a"'],
      ['x-a', '1, 2'],
    ]);
  });

  it.each(['HTTP/2 200', 'ICY 200 OK', '', 'HTTP/1.1 20 OK'])('is not what begins with %j', (line) => {
    expect(head(line)).toBeUndefined();
  });

  it.each(['no colon', ' folded: line', 'a b: c', ': nameless'])('has no line like %j', (line) => {
    expect(head('HTTP/1.1 200 OK', line)).toBeUndefined();
  });
});

describe('the length of what follows', () => {
  const lengthOf = (status: string, ...lines: string[]) => {
    const found = head(`HTTP/1.1 ${status}`, ...lines);
    return found && bodyLength(found);
  };

  it('is the one that is announced', () => {
    expect(lengthOf('200 OK', 'Content-Length: 268435456')).toBe(268_435_456);
  });

  it.each([
    [['Transfer-Encoding: chunked']],
    [['Content-Length: 5', 'Transfer-Encoding: chunked']],
    [['Content-Length: 5', 'Content-Length: 6']],
    [['Content-Length: -1']],
    [['Content-Length: 0x10']],
    [[]],
  ])('is not known from %j', (lines) => {
    expect(lengthOf('200 OK', ...lines)).toBeUndefined();
  });

  it.each(['100 Continue', '204 No Content', '304 Not Modified'])('is not known of %s', (status) => {
    expect(lengthOf(status, 'Content-Length: 5')).toBeUndefined();
  });
});

describe('a connection', () => {
  it.each([
    ['HTTP/1.1 200 OK', 'A: b', true],
    ['HTTP/1.1 200 OK', 'Connection: Close', false],
    ['HTTP/1.0 200 OK', 'A: b', false],
  ])('stays open after %j with %j: %s', (first, line, stays) => {
    const text = `${first}\r\n${line}`;
    const found = parseHead(text);
    expect(found && staysOpen(text, found)).toBe(stays);
  });
});
