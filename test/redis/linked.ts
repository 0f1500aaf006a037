import { Redis } from 'ioredis';
import { vi } from 'vitest';
import { RedisLink } from '../../src/cluster/redis/link.js';
import { createLogger } from '../../src/telemetry/log.js';
import { until } from '../parts/process.js';
import { patience } from '../parts/patience.js';

export interface Linked extends Disposable {
  readonly link: RedisLink;
  readonly failures: () => number;
  /** Keys of commands that met a value of a wrong type. */
  readonly wrongTypes: readonly (string | undefined)[];
  readonly states: readonly number[];
  /** Messages at `info` and above. */
  readonly said: () => string[];
}

/** A link as the program makes it, that is connected. */
export async function linked(addr: string, budgetMs = 2_000): Promise<Linked> {
  const [host = '', port = ''] = addr.split(':');
  const client = new Redis(Number(port), host, {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
  });
  client.on('error', () => undefined);
  const lines: string[] = [];
  const log = createLogger(
    { level: 'info', formatter: 'json', fields: {} },
    { write: (line) => void lines.push(line) },
  );
  const failed = vi.fn<() => void>();
  const states: number[] = [];
  const wrongTypes: (string | undefined)[] = [];
  const link = new RedisLink(client, budgetMs, 'test', log, {
    failed,
    wrongType: (key) => wrongTypes.push(key),
    state: (usable) => states.push(usable),
  });
  await until(() => link.usable, patience());
  return {
    link,
    states,
    wrongTypes,
    failures: () => failed.mock.calls.length,
    said: () => lines.map((line) => (JSON.parse(line) as { msg: string }).msg),
    [Symbol.dispose]: () => link.close(),
  };
}
