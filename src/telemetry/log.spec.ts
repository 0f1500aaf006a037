import { describe, expect, it } from 'vitest';
import { UpstreamError } from '../upstream/upstream.js';
import { createLogger, describeError, type LogOptions } from './log.js';

function logged(options: Partial<LogOptions>, write: (log: ReturnType<typeof createLogger>) => void): string {
  let text = '';
  const log = createLogger(
    { level: 'info', formatter: 'json', fields: { service: 'registry' }, ...options },
    { write: (line) => void (text += line) },
  );
  write(log);
  return text;
}

describe('the log', () => {
  it('writes one JSON object a line, with the configured fields', () => {
    const line = JSON.parse(logged({}, (log) => log.warn({ a: 1 }, 'hello'))) as Record<string, unknown>;
    expect(line).toMatchObject({ level: 'warning', msg: 'hello', a: 1, service: 'registry' });
    expect(new Date(String(line['time'])).getTime()).toBeGreaterThan(0);
  });

  it('writes logfmt as registry:2 does, with nothing that breaks a line', () => {
    const line = logged({ formatter: 'text' }, (log) => log.info({ path: 'a b"\n', n: 2 }, 'two words'));
    expect(line).toMatch(/^time="[^"]+" level=info msg="two words" service=registry path="a b\\"\\n" n=2\n$/);
  });

  it('uses logstash’s names', () => {
    const line = JSON.parse(logged({ formatter: 'logstash' }, (log) => log.info('x'))) as Record<
      string,
      unknown
    >;
    expect(line).toMatchObject({ message: 'x' });
    expect(line).toHaveProperty('@timestamp');
  });

  it('leaves out what is below the level', () => {
    expect(logged({ level: 'error' }, (log) => log.warn('x'))).toBe('');
  });

  it('says of an error what an operator needs', () => {
    const error = new UpstreamError('timeout', 'ghcr.io', 'no answer', {
      status: 504,
      cause: new Error('socket'),
    });
    expect(describeError(error)).toEqual({
      type: 'UpstreamError',
      message: 'upstream ghcr.io: no answer',
      code: 'timeout',
      status: 504,
      cause: 'socket',
    });
  });
});
