import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino';
import { withoutSecrets } from './without-secrets.js';

export type Logger = PinoLogger;

export interface LogOptions {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  readonly formatter: 'json' | 'text' | 'logstash';
  readonly fields: Readonly<Record<string, unknown>>;
}

const flushMs = 100;
/** Of lines that are written at once; the most that the library takes. */
const batchBytes = 16 * 1024 - 1;
/** Characters that wait for the reader of standard output. Further lines are dropped, so that a reader that stalls takes no more memory. */
const mostWaiting = 8 * 1024 * 1024;

const levelNames: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warning',
  50: 'error',
  60: 'fatal',
};

/**
 * The program's log. `json` and `logstash` write one JSON object a line; `text` writes logfmt as registry:2 does
 * (`time="…" level=info msg="…" key=value`). Errors are logged as `err` with their type, message and code.
 * @param secrets values that no error brings into the log
 */
export function createLogger(
  options: LogOptions,
  destination?: DestinationStream,
  secrets: readonly string[] = [],
): Logger {
  const json = options.formatter !== 'text';
  const stream = destination ?? standardOutput();
  return pino(
    {
      level: options.level,
      base: { ...options.fields },
      messageKey: options.formatter === 'logstash' ? 'message' : 'msg',
      timestamp: () =>
        `,"${options.formatter === 'logstash' ? '@timestamp' : 'time'}":"${new Date().toISOString()}"`,
      formatters: { level: (_label, number) => ({ level: levelNames[number] ?? 'info' }) },
      serializers: { err: (error: unknown) => describeError(error, secrets) },
    },
    json ? stream : { write: (line: string) => stream.write(toLogfmt(line)) },
  );
}

/**
 * Standard output, written in batches: at least every 100 ms, and the rest when the process ends. The mirror serves
 * without a log where standard output takes nothing (a full disk, a terminal that was closed).
 */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: false, minLength: batchBytes, maxLength: mostWaiting });
  let isFailing = false;
  output.on('error', () => (isFailing = true)); // the log is the only place to report it
  output.on('write', () => (isFailing = false));
  setInterval(() => output.flush(), flushMs).unref();
  // Before the library's own listener. Its last write is repeated without end where standard output takes nothing.
  process.prependListener('exit', () => {
    if (isFailing) output.destroy();
    else output.flushSync();
  });
  return output;
}

/**
 * An error as facts for a log line: never its stack for expected errors, never an object that may hold a secret, and
 * texts without secrets. Never throws.
 */
export function describeError(error: unknown, secrets: readonly string[] = []): Record<string, unknown> {
  try {
    return factsOf(error, (text) => withoutSecrets(text, secrets));
  } catch {
    return { message: 'an error that cannot be described' }; // a getter or toString() throws
  }
}

function factsOf(error: unknown, clean: (text: string) => string): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: clean(String(error)) };
  const { code, status, stack } = error as { code?: unknown; status?: unknown; stack?: unknown };
  const isUnexpected = error.name === 'Error' || error instanceof TypeError;
  return {
    type: clean(error.name),
    message: clean(error.message),
    ...(typeof code === 'string' ? { code: clean(code) } : {}),
    ...(typeof status === 'number' ? { status } : {}),
    ...(isUnexpected && typeof stack === 'string' ? { stack: clean(stack) } : {}),
    ...(error.cause instanceof Error ? { cause: clean(error.cause.message) } : {}),
  };
}

function toLogfmt(line: string): string {
  const { time, level, msg, ...rest } = JSON.parse(line) as Record<string, unknown>;
  let text = `time="${String(time)}" level=${String(level)} msg=${quote(msg)}`;
  for (const [key, value] of Object.entries(rest)) {
    if (typeof value === 'object' && value !== null) {
      for (const [inner, part] of Object.entries(value)) text += ` ${key}.${inner}=${quote(part)}`;
    } else text += ` ${key}=${quote(value)}`;
  }
  return `${text}\n`;
}

function quote(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text !== undefined && /^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text ?? '');
}
