import type { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import { createLogger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { surviveUnhandledErrors } from './last-resort.js';

const events = ['unhandledRejection', 'uncaughtException'] as const;

/** What the log says of errors that no code handles. */
function logOf(reasons: readonly unknown[], secrets: readonly string[] = []): string[] {
  const lines: string[] = [];
  const log = createLogger(
    { level: 'info', formatter: 'json', fields: {} },
    { write: (line) => void lines.push(line) },
    secrets,
  );
  const emitter: EventEmitter = process;
  const others = events.map((event) => [event, emitter.listeners(event)] as const);
  for (const event of events) emitter.removeAllListeners(event);
  try {
    surviveUnhandledErrors(log, new Metrics());
    for (const reason of reasons) {
      emitter.emit('unhandledRejection', reason, Promise.resolve());
      emitter.emit('uncaughtException', reason as Error, 'uncaughtException');
    }
  } finally {
    for (const [event, listeners] of others) {
      emitter.removeAllListeners(event);
      for (const listener of listeners) emitter.on(event, listener as () => void);
    }
  }
  return lines;
}

const texts = [
  'redis://:s3cret@redis:6379',
  'https://me:s3cret@ghcr.io/v2/',
  'Authorization: Basic s3cret',
  'Bearer s3cret',
  'password=s3cret',
  'https://bucket.test/blob?X-Amz-Signature=s3cret',
  'the configured s3cret alone',
];

it.each(texts)('keeps %j out of the log, wherever an error carries it', (text) => {
  const coded = Object.assign(new Error('refused'), { code: text, input: text, config: { headers: text } });
  const named = Object.assign(new Error('refused'), { name: text });
  const errors = [
    text,
    { text },
    new Error(text),
    new TypeError(text),
    new Error('refused', { cause: new Error(text) }),
    new Error('refused', { cause: { text } }),
    new AggregateError([new Error(text)], text),
    coded,
    named,
  ];
  const lines = logOf(errors, text.startsWith('the') ? ['s3cret'] : []);
  expect(lines).toHaveLength(2 * errors.length);
  expect(lines.join('')).not.toContain('s3cret');
});

it('logs errors that cannot be described', () => {
  const hostile = Object.defineProperty(new Error('a'), 'message', {
    get: () => {
      throw new Error('no message');
    },
  });
  expect(logOf([Object.create(null), hostile, Symbol('a'), undefined, null])).toHaveLength(10);
});
