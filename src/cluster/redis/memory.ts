import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';

/** It is asked for far more often; and so that the least recently used, which a full Redis drops, is never this. */
const lifetimeMs = 24 * 60 * 60_000;

// KEYS[1] since, ARGV[1] lifetime (ms). Returns for how long Redis has kept the key (ms). A clock that was set back
// begins anew.
const script = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = tonumber(redis.call('GET', KEYS[1]))
if not since or since > now then
  since = now
  redis.call('SET', KEYS[1], string.format('%.0f', since))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return now - since`;

/** Since when Redis has not been empty, by a key that is there since then and by Redis' own clock. */
export class RedisMemory {
  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
  ) {}

  /** In milliseconds, from the first time that anybody has asked; `undefined`: Redis cannot be asked. */
  async ageMs(): Promise<number | undefined> {
    const age = await this.link.call((client) => client.eval(script, 1, this.keys.since(), lifetimeMs));
    return age === unavailable ? undefined : Number(age);
  }
}
