import type { Descriptor } from '../../oci/descriptor.js';
import type { SharedTag, TagCache } from '../cluster.js';
import { formatDescriptor, parseDescriptor } from './descriptor-cache.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';
import { onlyHash } from './only-hash.js';
import { longestValue, type SealedValues } from './sealed-values.js';

const lifetimeMs = 24 * 60 * 60_000;

// KEYS[1] tag, ARGV[1] the most bytes of a field; a longer one counts as empty. Returns the sealed descriptor, when the
// upstream was asked, and the time now (ms, Redis' clock).
const getScript = `
local stored = redis.call('HMGET', KEYS[1], 'descriptor', 'began')
local time = redis.call('TIME')
for index = 1, 2 do if stored[index] and #stored[index] > tonumber(ARGV[1]) then stored[index] = '' end end
return {stored[1], stored[2], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}`;

// KEYS[1] tag, ARGV[1] when the upstream was asked (ms, Redis' clock), ARGV[2] the sealed descriptor, ARGV[3] lifetime
// (ms), ARGV[4] a descriptor without proof, ARGV[5] the most bytes of a descriptor. Returns 1, or the descriptor and the
// time of a later question, which stays: a replica that slept between asking and storing cannot turn the tag back.
// Three descriptors never stay: the one without proof, a longer one, and one of the future, which was stored before the
// clock of Redis stepped back.
const putScript = `${onlyHash}
local stored = redis.call('HMGET', KEYS[1], 'descriptor', 'began')
local began = tonumber(stored[2] or '')
local time = redis.call('TIME')
local future = began and began > time[1] * 1000 + time[2] / 1000
local sound = stored[1] and stored[1] ~= ARGV[4] and #stored[1] <= tonumber(ARGV[5])
if sound and began and not future and began > tonumber(ARGV[1]) then return stored end
redis.call('HSET', KEYS[1], 'began', ARGV[1], 'descriptor', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`;

type StoredTag = readonly [descriptor: string | null, began: string | null, now?: string];

/** The name under which a tag's descriptor is sealed. It has the time, so that an old answer cannot get a new time. */
export function timed(name: string, began: string): string {
  return `${name}\n${began}`;
}

/** Tags that all replicas share, timed by Redis' clock alone. */
export class RedisTagCache implements TagCache {
  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
    private readonly values: SealedValues,
  ) {}

  async get(key: string): Promise<SharedTag | undefined> {
    const name = this.keys.tag(key);
    const found = await this.link.call((client) => client.eval(getScript, 1, name, longestValue));
    if (found === unavailable) return undefined;
    const [value, began, now] = found as StoredTag;
    const descriptor = this.#open(name, value, began);
    const ageMs = Number(now) - Number(began);
    // A negative age: the clock of Redis has stepped back, and the age is unknown.
    return descriptor !== undefined && ageMs >= 0 ? { descriptor, ageMs } : undefined;
  }

  async now(): Promise<string | undefined> {
    const time = await this.link.call((client) => client.time());
    if (time === unavailable) return undefined;
    const [seconds, micros] = time;
    return String(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000));
  }

  async put(key: string, descriptor: Descriptor, began: string): Promise<boolean> {
    const name = this.keys.tag(key);
    const value = this.values.seal(timed(name, began), formatDescriptor(descriptor));
    const write = (replaced: string): Promise<unknown> =>
      this.link.call((client) =>
        client.eval(putScript, 1, name, began, value, lifetimeMs, replaced, longestValue),
      );
    const later = await write('');
    if (!Array.isArray(later)) return true;
    const [found, when] = later as unknown as StoredTag;
    if (this.#open(name, found, when) !== undefined) return false;
    return !Array.isArray(await write(found ?? ''));
  }

  #open(name: string, value: string | null, began: string | null): Descriptor | undefined {
    const text = this.values.open('tag', timed(name, began ?? ''), value);
    return text === undefined ? undefined : parseDescriptor(text);
  }

  drop(key: string): void {
    void this.link.call((client) => client.del(this.keys.tag(key)));
  }
}
