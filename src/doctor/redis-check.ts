import { askSentinel, examineRedis, RedisTrouble, type SentinelFacts } from '../cluster/redis/examination.js';
import type { RedisConfig } from '../config/config.js';
import { codeOf, type Check, type Tell } from './check.js';
import type { Clocks } from './clocks.js';

const slowMs = 20;

const advices: Readonly<Record<string, string>> = {
  WRONGPASS: 'has to be the password that requirepass or the ACL says',
  NOAUTH: 'is missing: this Redis wants a password',
  NOPERM: 'belongs to a user who may not do what the mirror does: see docs/redis.md',
  ECONNREFUSED: 'leads to where no Redis listens: is it running, and is it this address?',
  ENOTFOUND: 'leads to a name that nobody knows here: see the DNS, and the network of the container',
  ETIMEDOUT:
    'leads to where nobody answers: see the network, and whether both sides speak TLS or not (redis.tls)',
};

/** Redis as the mirror uses it; with Sentinel, each of them and the master that they name. */
export function redisCheck(config: RedisConfig, clocks: Clocks): Check {
  return {
    name: 'redis',
    run: async (tell, signal) => {
      const { mastername, addrs } = config;
      if (mastername === undefined) return examine(config, addrs[0] ?? '', clocks, tell, signal);
      const told = await Promise.all(addrs.map((addr) => ask(config, addr, tell, signal)));
      const heard = told.filter((facts) => facts !== undefined);
      const masters = [...new Set(heard.map(({ master }) => master))];
      if (heard.length === 0) return;
      if (masters.length > 1) {
        tell.fail(
          `the Sentinels do not agree on the master: ${masters.map((master) => master ?? 'none').join(', ')}`,
          'SENTINEL RESET those that have it wrong, and see that they all reach each other',
        );
      }
      tellQuorum(heard, mastername, tell);
      for (const master of masters)
        if (master !== undefined) await examine(config, master, clocks, tell, signal);
    },
  };
}

async function ask(
  config: RedisConfig,
  addr: string,
  tell: Tell,
  signal: AbortSignal,
): Promise<SentinelFacts | undefined> {
  try {
    const facts = await askSentinel(config, addr, signal);
    if (facts.master !== undefined) return facts;
    tell.fail(
      `the Sentinel ${addr} watches no ${config.mastername}`,
      'redis.sentinel.mastername has to be the name in its "sentinel monitor"',
    );
  } catch (error) {
    signal.throwIfAborted();
    tellTrouble(
      error,
      `the Sentinel ${addr}`,
      { password: 'redis.sentinelpassword', address: 'redis.addrs' },
      tell,
    );
  }
  return undefined;
}

function tellQuorum(heard: readonly SentinelFacts[], mastername: string, tell: Tell): void {
  const without = heard.find(({ quorum }) => quorum !== 'reached');
  if (without === undefined) return;
  tell.fail(
    `the Sentinels could not elect another master for ${mastername}: ${without.quorum}`,
    'start the Sentinels that are missing, and see that they reach each other and the master',
  );
}

async function examine(
  config: RedisConfig,
  server: string,
  clocks: Clocks,
  tell: Tell,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { role, timeMs, tookMs, maxmemory, evicts } = await examineRedis(config, server, signal);
    clocks.note('redis', timeMs, 1_000);
    if (role !== 'master') {
      tell.fail(
        `${server} is a ${role === 'slave' ? 'replica' : role}, not the master`,
        'have redis lead to the master',
      );
      return;
    }
    if (tookMs > slowMs) {
      tell.warn(
        `${server} takes ${Math.round(tookMs)} ms to answer`,
        'put it near the replicas: requests wait for it',
      );
    }
    if (evicts !== 'allkeys-lru') {
      tell.warn(
        `${server} evicts by ${evicts}`,
        'CONFIG SET maxmemory-policy allkeys-lru: a full Redis should forget what was not used for longest',
      );
    }
    if (maxmemory === 0) {
      tell.warn(`${server} has no memory limit`, 'CONFIG SET maxmemory, such as 256mb: see docs/redis.md');
    }
    tell.ok(`${server} is the master and answers within ${Math.ceil(tookMs)} ms`);
  } catch (error) {
    signal.throwIfAborted();
    const named = config.mastername !== undefined;
    const address = named
      ? 'what the Sentinels announce (sentinel announce-ip, announce-hostnames)'
      : 'redis.addr';
    tellTrouble(
      error,
      named ? `the master ${server}` : server,
      { password: 'redis.password', address },
      tell,
    );
  }
}

/** What leads to a server: the keys of the configuration, or who else says it. */
interface Sources {
  readonly password: string;
  readonly address: string;
}

function tellTrouble(error: unknown, who: string, { password, address }: Sources, tell: Tell): void {
  const code = error instanceof RedisTrouble ? error.code : codeOf(error);
  const source = /PASS|AUTH|PERM/.test(code) ? password : address;
  tell.fail(`${who} cannot be used: ${code}`, `${source} ${advices[code] ?? 'is the place to look at'}`);
}
