import type { Descriptor } from '../../oci/descriptor.js';
import type { SharedTag, TagCache } from '../cluster.js';
import { formatDescriptor, parseDescriptor } from './descriptor-cache.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';

const lifetimeMs = 24 * 60 * 60_000;

// KEYS[1] tag. Returns the descriptor and the milliseconds since it was asked for, by Redis' clock; or nothing.
const getScript = `
local stored = redis.call('HMGET', KEYS[1], 'began', 'descriptor')
if not stored[1] then return {} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {stored[2], tostring(now - stored[1])}`;

// KEYS[1] tag, ARGV[1] when the upstream was asked (ms, Redis' clock), ARGV[2] descriptor, ARGV[3] lifetime (ms).
// A replica that slept between asking and storing cannot turn the tag back: the later question wins.
const putScript = `
local stored = redis.call('HGET', KEYS[1], 'began')
if stored and tonumber(stored) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'began', ARGV[1], 'descriptor', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`;

/** Tags that all replicas share, timed by Redis' clock alone. */
export class RedisTagCache implements TagCache {
  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
  ) {}

  async get(key: string): Promise<SharedTag | undefined> {
    const found = await this.link.call((client) => client.eval(getScript, 1, this.keys.tag(key)));
    if (found === unavailable) return undefined;
    const [text, age] = found as [string?, string?];
    const descriptor = text === undefined ? undefined : parseDescriptor(text);
    return descriptor && { descriptor, ageMs: Math.max(0, Number(age)) };
  }

  async now(): Promise<string | undefined> {
    const time = await this.link.call((client) => client.time());
    if (time === unavailable) return undefined;
    const [seconds, micros] = time;
    return String(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000));
  }

  async put(key: string, descriptor: Descriptor, began: string): Promise<boolean> {
    const text = formatDescriptor(descriptor);
    const stored = await this.link.call((client) =>
      client.eval(putScript, 1, this.keys.tag(key), began, text, lifetimeMs),
    );
    return stored !== 0;
  }

  drop(key: string): void {
    void this.link.call((client) => client.del(this.keys.tag(key)));
  }
}
