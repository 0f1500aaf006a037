import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisBudgetLedger } from '../../src/cluster/redis/budget.js';
import { connectRedis } from '../../src/cluster/redis/connection.js';
import { Keys } from '../../src/cluster/redis/keys.js';
import { RedisLink } from '../../src/cluster/redis/link.js';
import { LocalBudgetLedger, type BudgetLedger } from '../../src/upstream/rate-budget.js';
import { budgetLedgerContract } from '../contracts/budget-ledger.js';
import { movableWallClock } from '../parts/clock.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { until } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { patience } from '../parts/patience.js';

describe.skipIf(lacks('redis-server'))('budgets in Redis', () => {
  let redis: RedisServer;
  let links: RedisLink[];
  /** Keys that a test has overwritten. */
  const garbage = new Set<string>();
  beforeAll(async () => {
    redis = await startRedis();
    links = [newLink(redis.addr), newLink(redis.addr)];
    await until(() => links.every(({ usable }) => usable), patience());
  });
  afterAll(async () => {
    for (const link of links) link.close();
    await redis[Symbol.asyncDispose]();
  });
  const ledgerOf = (replica: number): BudgetLedger => {
    const link = links[replica];
    if (link === undefined) throw new Error(`no replica ${replica}`);
    return new RedisBudgetLedger(link, new Keys('test'), 'secret', new LocalBudgetLedger());
  };

  budgetLedgerContract('in Redis', () => ({ ledger: ledgerOf(0), pass: (ms) => sleep(ms) }));

  it('are what all replicas count together; without a user name each counts for itself', async () => {
    const [one, other] = [ledgerOf(0), ledgerOf(1)];
    for (const username of ['somebody', undefined]) {
      const account = { host: 'shared.test', username };
      const { entry } = await one.enter(account, true);
      if (entry === undefined) throw new Error('refused');
      await one.leave(account, entry, { how: 'told', limit: 5, remaining: 0, pauseMs: 60_000 });
      expect((await one.enter(account, false)).entry).toBeUndefined();
      const elsewhere = await other.enter(account, true);
      expect(elsewhere.entry === undefined).toBe(username !== undefined);
    }
  });

  it.skipIf(lacks('faketime'))(
    'do not hold a user back for as long as the clock of Redis has stepped back',
    async () => {
      await using cleanup = new AsyncDisposableStack();
      const folder = cleanup.use(await temporaryFolder());
      const clock = await movableWallClock(join(folder.path, 'clock'));
      const stepped = cleanup.use(await startRedis({ env: clock.env }));
      const link = newLink(stepped.addr);
      cleanup.defer(() => link.close());
      await until(() => link.usable, patience());
      const ledger = new RedisBudgetLedger(link, new Keys('test'), 'secret', new LocalBudgetLedger());
      const account = { host: 'stepped.test', username: 'somebody' };
      const { entry } = await ledger.enter(account, true);
      if (entry === undefined) throw new Error('refused');
      await ledger.leave(account, entry, { how: 'told', limit: 5, remaining: 0, pauseMs: 3_600_000 });
      expect((await ledger.enter(account, true)).entry).toBeUndefined();
      await clock.ahead(-3_600);
      await until(async () => (await ledger.enter(account, true)).entry !== undefined, patience());
    },
  );

  it.each<[string, (client: Redis, name: string) => Promise<unknown>]>([
    ['a list', (client, name) => client.rpush(name, 'x')],
    ['a long string', (client, name) => client.set(name, 'x'.repeat(10_000_000))],
    ['words', (client, name) => client.hset(name, { remaining: 'none', blocked: 'for ever', settled: 'x' })],
    ['no numbers', (client, name) => client.hset(name, { limit: 'nan', remaining: '-inf', blocked: 'inf' })],
    ['a pause without an end', (client, name) => client.hset(name, { remaining: 0, blocked: 8e15 })],
  ])('forget %s that another client wrote', async (kind, write) => {
    const [one, other] = [ledgerOf(0), ledgerOf(1)];
    const account = { host: 'garbage.test', username: kind };
    const told = { how: 'told', limit: 5, remaining: 3, pauseMs: 0 } as const;
    const { entry: first } = await one.enter(account, true);
    if (first === undefined) throw new Error('refused');
    await one.leave(account, first, told);
    const names = await redis.client().keys('*budget:garbage.test*');
    const name = names.find((each) => !garbage.has(each)) ?? '';
    garbage.add(name);
    await redis.client().del(name);
    await write(redis.client(), name);
    const { entry, view } = await one.enter(account, true);
    if (entry === undefined) throw new Error('refused');
    expect(view).toEqual({ limit: undefined, remaining: undefined, windowSeconds: undefined, blockedMs: 0 });
    await one.leave(account, entry, told);
    expect((await other.enter(account, false)).view).toMatchObject({ limit: 5, remaining: 3 });
  });

  it('are counted here while Redis is away', async () => {
    const ledger = ledgerOf(0);
    const account = { host: 'away.test', username: 'somebody' };
    await redis.kill();
    const { entry } = await ledger.enter(account, true);
    if (entry === undefined) throw new Error('refused');
    const told = { how: 'told', limit: 5, remaining: 0, pauseMs: 60_000 } as const;
    expect(await ledger.leave(account, entry, told)).toMatchObject({ remaining: 0, limit: 5 });
    expect((await ledger.enter(account, true)).entry).toBeUndefined();
  });
});

function newLink(addr: string): RedisLink {
  const none = undefined;
  const config = { addrs: [addr], mastername: none, username: none, password: none, sentinelusername: none };
  const times = { dialtimeout: none, readtimeout: none, writetimeout: none, tls: none };
  const log = pino({ level: 'silent' });
  const client = connectRedis({ ...config, sentinelpassword: none, db: 0, ...times }, 'test', log);
  const events = { failed: () => undefined, wrongType: () => undefined, state: () => undefined };
  return new RedisLink(client, 5_000, 'test', log, events);
}
