import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;

export interface LogOptions {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  readonly formatter: 'json' | 'text' | 'logstash';
  readonly fields: Readonly<Record<string, unknown>>;
}

const flushMs = 100;
/** Of lines that are written at once; the most that the library takes. */
const batchBytes = 16 * 1024 - 1;

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
 */
export function createLogger(options: LogOptions, destination?: DestinationStream): Logger {
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
      serializers: { err: describeError },
    },
    json ? stream : { write: (line: string) => stream.write(toLogfmt(line)) },
  );
}

/** Standard output, written in batches: at least every 100 ms, and whatever is left when the process ends. */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: false, minLength: batchBytes });
  setInterval(() => output.flush(), flushMs).unref();
  process.on('exit', () => output.flushSync());
  return output;
}

/** An error as facts for a log line: never its stack for expected errors, never an object that may hold a secret. */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, status } = error as { code?: unknown; status?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === 'string' ? { code } : {}),
    ...(typeof status === 'number' ? { status } : {}),
    ...(error.name === 'Error' || error instanceof TypeError ? { stack: error.stack } : {}),
    ...(error.cause instanceof Error ? { cause: error.cause.message } : {}),
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
