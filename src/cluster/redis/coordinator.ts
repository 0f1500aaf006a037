import type { Redis } from 'ioredis';
import Redlock, { ExecutionError, ResourceLockedError, type Lock } from 'redlock';
import { SingleFlight } from '../../async/single-flight.js';
import type { Logger } from '../../telemetry/log.js';
import type { Coordinator, Lease, PeerRecord, SpoolRecord, WorkState } from '../cluster.js';
import { processLease } from '../local/coordinator.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';
import { onlyHash } from './only-hash.js';
import { longestValue, readValue, type SealedValues } from './sealed-values.js';

const leaseMs = 5_000;
const extendMs = 1_500;
const recordMs = 10_000;
const doneMs = 60_000;
const spoolMs = 10_000;
/** Replicas that have a part of one blob at the same time. */
const mostSpools = 1_000;

// KEYS[1] spools, ARGV[1] attempt, ARGV[2] `<bytes> <address>`, ARGV[3] lifetime (ms). Returns nothing of use.
const announceScript = `${onlyHash}
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])`;

// KEYS[1] spools; ARGV[1] the most fields of the hash, ARGV[2] the most bytes of a field and of its value. Returns the
// fields and values within these. Replicas write no others.
const spoolsScript = `
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then return {} end
local found = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if #field <= tonumber(ARGV[2]) and redis.call('HSTRLEN', KEYS[1], field) <= tonumber(ARGV[2]) then
    table.insert(found, field)
    table.insert(found, redis.call('HGET', KEYS[1], field))
  end
end
return found`;

// KEYS[1] lease, ARGV[1] the longest lifetime of a lease (ms). Returns whether the lease is held. A key that would live
// longer gets that lifetime: another client wrote it, or the clock of Redis has stepped back. A holder that lives
// extends its lease in time.
const heldScript = `
local left = redis.call('PTTL', KEYS[1])
if left == -1 or left > tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return left == -2 and 0 or 1`;

// KEYS[1] done, KEYS[2] leader, KEYS[3] lease; ARGV[1] how long the work counts as done (ms; 0: it does not), ARGV[2]
// the published record, ARGV[3] the lease's value, ARGV[4] the sealed mark of done work. The script keeps a record or a
// lease of another leader.
const releaseScript = `
if ARGV[1] ~= '0' then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[1]) end
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
if redis.call('GET', KEYS[3]) == ARGV[3] then redis.call('DEL', KEYS[3]) end
return 1`;

/**
 * Leases by redlock, on a connection and a timer of our own: its automatic extension spins when Redis goes away.
 *
 * Three kinds of trouble with a lease that is held: Redis cannot be asked (go on leading, the worst is a duplicate
 * transfer); the key is gone (take it again); somebody else has it (`confirm` says so, and the holder gives way).
 */
export class RedisCoordinator implements Coordinator {
  readonly #redlock: Redlock;

  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
    private readonly values: SealedValues,
    private readonly log: Logger,
  ) {
    this.#redlock = new Redlock([link.client], {
      retryCount: 0,
      driftFactor: 0.01,
      automaticExtensionThreshold: 0,
    });
    this.#redlock.on('error', () => undefined); // told to whoever asked
  }

  async tryLead(key: string): Promise<Lease | undefined> {
    const taken = await this.#acquire(key);
    if (taken === 'held') return undefined;
    return taken === unavailable ? processLease : new RedisLease(this, key, taken, this.log);
  }

  async leader(key: string): Promise<PeerRecord | undefined> {
    const name = this.keys.leader(key);
    const value = await this.link.call((client) => readValue(client, name));
    const text = value === unavailable ? undefined : this.values.open('leader', name, value);
    return text === undefined ? undefined : parseRecord(text);
  }

  async spools(key: string): Promise<readonly SpoolRecord[]> {
    const name = this.keys.spools(key);
    const found = await this.link.call((client) =>
      client.eval(spoolsScript, 1, name, mostSpools, longestValue),
    );
    if (found === unavailable) return [];
    return pairs(found as string[])
      .map(([attempt, value]) => {
        const text = this.values.open('spools', ofAttempt(name, attempt), value);
        return text === undefined ? undefined : parseSpool(attempt, text);
      })
      .filter((record) => record !== undefined)
      .sort((a, b) => b.length - a.length);
  }

  announceSpool(key: string, { attempt, url, length }: SpoolRecord): void {
    const name = this.keys.spools(key);
    const value = this.values.seal(ofAttempt(name, attempt), `${length} ${url}`);
    void this.link.call((client) => client.eval(announceScript, 1, name, attempt, value, spoolMs));
  }

  withdrawSpool(key: string, { attempt }: PeerRecord): void {
    void this.link.call((client) => client.hdel(this.keys.spools(key), attempt));
  }

  async state(key: string): Promise<WorkState> {
    const name = this.keys.done(key);
    const found = await this.link.call((client) =>
      Promise.all([readValue(client, name), this.#isHeld(client, key)]),
    );
    if (found === unavailable) return 'unknown';
    const [done, held] = found;
    if (this.values.open('done', name, done) !== undefined) return 'done';
    return held ? 'led' : 'free';
  }

  async #isHeld(client: Redis, key: string): Promise<boolean> {
    return (await client.eval(heldScript, 1, this.keys.lease(key), leaseMs)) === 1;
  }

  /** Takes the key, or says who or what prevents that. */
  async #acquire(key: string): Promise<Lock | 'held' | typeof unavailable> {
    const taken = await this.link.call(() => locked(this.#redlock.acquire([this.keys.lease(key)], leaseMs)));
    if (taken === 'held') await this.link.call((client) => this.#isHeld(client, key));
    return taken;
  }

  /** What a lease does; see there. */
  async extend(lock: Lock): Promise<Lock | 'held' | typeof unavailable> {
    // Redlock gives up by this host's clock, and after an answer that was late. Redis alone knows who has the key.
    lock.expiration = Number.MAX_SAFE_INTEGER;
    return this.link.call(() => locked(lock.extend(leaseMs)));
  }

  acquireAgain(key: string): Promise<Lock | 'held' | typeof unavailable> {
    return this.#acquire(key);
  }

  async publish(key: string, record: PeerRecord): Promise<void> {
    const name = this.keys.leader(key);
    const value = this.values.seal(name, JSON.stringify(record));
    await this.link.call((client) => client.set(name, value, 'PX', recordMs));
  }

  async release(key: string, lock: Lock, done: boolean, record: PeerRecord | undefined): Promise<void> {
    const [doneKey, leaderKey] = [this.keys.done(key), this.keys.leader(key)];
    const names = [doneKey, leaderKey, this.keys.lease(key)];
    const published = record === undefined ? '' : this.values.seal(leaderKey, JSON.stringify(record));
    const mark = this.values.seal(doneKey, 'done');
    await this.link.call((client) =>
      client.eval(releaseScript, names.length, ...names, done ? doneMs : 0, published, lock.value, mark),
    );
  }
}

class RedisLease implements Lease {
  readonly scope = 'cluster';
  #extendedAt = performance.now();
  #record: PeerRecord | undefined;
  #lost = false;
  readonly #extending = new SingleFlight<void>();
  readonly #timer = setInterval(() => void this.#extend(), extendMs).unref();

  constructor(
    private readonly coordinator: RedisCoordinator,
    private readonly key: string,
    private lock: Lock,
    private readonly log: Logger,
  ) {}

  get doubtful(): boolean {
    return this.#lost || performance.now() - this.#extendedAt > leaseMs;
  }

  async confirm(): Promise<boolean> {
    if (this.doubtful && !this.#lost) await this.#extend();
    return !this.#lost;
  }

  async publish(record: PeerRecord): Promise<void> {
    this.#record = record;
    await this.coordinator.publish(this.key, record);
  }

  async release(done: boolean): Promise<void> {
    clearInterval(this.#timer);
    await this.#extending.idle(this.key);
    if (!this.#lost) await this.coordinator.release(this.key, this.lock, done, this.#record);
  }

  /** One at a time: the timer and a holder in doubt may ask at the same moment. */
  #extend(): Promise<void> {
    return this.#extending.join(this.key, () => this.#extendOnce());
  }

  async #extendOnce(): Promise<void> {
    if (this.#lost) return;
    let result = await this.coordinator.extend(this.lock);
    // Redlock does not tell a key that is gone from one that somebody else has: taking it tells.
    if (result === 'held') result = await this.#takeAgain();
    if (result === 'held') {
      this.#lost = true;
      clearInterval(this.#timer);
      this.log.info({ key: this.key }, 'another replica leads now, or has led to the end');
      return;
    }
    if (result === unavailable) return; // nobody else can be told to lead either
    this.lock = result;
    this.#extendedAt = performance.now();
    if (this.#record !== undefined) await this.coordinator.publish(this.key, this.#record);
  }

  async #takeAgain(): Promise<Lock | 'held' | typeof unavailable> {
    const result = await this.coordinator.acquireAgain(this.key);
    if (result === 'held' || result === unavailable) return result;
    if ((await this.coordinator.state(this.key)) !== 'done') return result;
    // Nobody has it, because somebody has finished while this process slept.
    await this.coordinator.release(this.key, result, false, undefined);
    return 'held';
  }
}

/** Redlock's result, `held` where another holder has the key; other failures are thrown. */
async function locked(attempt: Promise<Lock>): Promise<Lock | 'held'> {
  try {
    return await attempt;
  } catch (error) {
    if (!(error instanceof ExecutionError)) throw error;
    const stats = await Promise.all(error.attempts);
    const against = stats.flatMap(({ votesAgainst }) => [...votesAgainst.values()]);
    if (against.some((vote) => vote instanceof ResourceLockedError)) return 'held';
    throw error;
  }
}

/** The name under which an attempt's field is sealed. */
function ofAttempt(name: string, attempt: string): string {
  return `${name}\n${attempt}`;
}

function pairs(flat: readonly string[]): [field: string, value: string][] {
  return flat.flatMap((field, index) => (index % 2 === 0 ? [[field, flat[index + 1] ?? '']] : []));
}

const isAttempt = /^[a-f0-9]{32}$/;

/** The seal does not prove the form: a replica of another version may have written the text. */
function parseRecord(text: string): PeerRecord | undefined {
  try {
    const { url, attempt } = JSON.parse(text) as Record<keyof PeerRecord, unknown>;
    return asRecord(String(url), String(attempt));
  } catch {
    return undefined;
  }
}

function asRecord(url: string, attempt: string): PeerRecord | undefined {
  return URL.parse(url)?.protocol === 'http:' && isAttempt.test(attempt) ? { url, attempt } : undefined;
}

function parseSpool(attempt: string, value: string): SpoolRecord | undefined {
  const match = /^(\d{1,15}) (\S+)$/.exec(value);
  const record = asRecord(match?.[2] ?? '', attempt);
  return record && { ...record, length: Number(match?.[1]) };
}
