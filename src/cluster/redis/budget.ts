import { createHmac } from 'node:crypto';
import {
  forgetMs,
  longestBlockMs,
  probeMs,
  shortMs,
  type Account,
  type BudgetLedger,
  type BudgetView,
  type Entered,
  type Entry,
  type Said,
} from '../../upstream/rate-budget.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';
import { onlyHash } from './only-hash.js';

const lifetimeMs = 24 * 60 * 60_000;

// Forgets what no replica wrote, and what is of the future: the clock of Redis has stepped back, so no kept time means
// anything now.
const header = `${onlyHash}
local kept = {}
local fields = {'limit', 'remaining', 'window', 'running', 'begun', 'settled', 'blocked'}
for index, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
  local number = tonumber(value)
  if number and number >= 0 and number < 9e15 then kept[fields[index]] = number end
end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
if (kept.settled or 0) > micros or (kept.begun or 0) > now or (kept.blocked or 0) > now + ${longestBlockMs} then
  redis.call('DEL', KEYS[1])
  kept = {}
end
local running = kept.running or 0
local function view(entry, blocked)
  local left = kept.remaining and math.max(0, kept.remaining - running) or ''
  return {entry, tostring(kept.limit or ''), tostring(left), tostring(kept.window or ''), blocked}
end`;

// KEYS[1] budget, ARGV[1] counted (0, 1), then the times of rate-budget.ts: ARGV[2] probe, ARGV[3] forget, ARGV[4]
// short, ARGV[5] lifetime (ms). Returns '' (not now) or whether something is known (else nothing is
// counted) and when it began (µs); and the view: limit, what is left, window (s), blocked (ms).
const enterScript = `${header}
local began = string.format('%.0f', micros)
if not kept.remaining then return view('unknown ' .. began, 0) end
if now - (kept.begun or 0) > tonumber(ARGV[3]) then running = 0 end
local blocked = kept.blocked or 0
if blocked > now then return view('', blocked - now) end
if blocked > 0 then redis.call('HSET', KEYS[1], 'blocked', now + ARGV[2])
elseif ARGV[1] == '1' and kept.remaining <= running then return view('', tonumber(ARGV[4])) end
if ARGV[1] == '1' then
  running = running + 1
  redis.call('HSET', KEYS[1], 'running', running, 'begun', now)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return view('known ' .. began, 0)`;

// KEYS[1] budget, ARGV[1] when it began (µs), ARGV[2] counted (0, 1), ARGV[3] how (told, refused, silent, lost), ARGV[4]
// limit, ARGV[5] remaining, ARGV[6] window (s), ARGV[7] pause (ms), ARGV[8] lifetime (ms). Returns as above.
// An answer that may be older than the last one can only lower what is left.
const leaveScript = `${header}
local how, later = ARGV[3], tonumber(ARGV[1]) > (kept.settled or -1)
if ARGV[2] == '1' then
  running = math.max(0, running - 1)
  if kept.remaining then redis.call('HSET', KEYS[1], 'running', running) end
end
local blocked = kept.blocked or 0
if how == 'silent' and later and kept.remaining == 0 then
  redis.call('DEL', KEYS[1])
  kept.limit, kept.remaining, blocked = nil, nil, 0
elseif how == 'told' or how == 'refused' then
  local remaining = how == 'refused' and 0 or tonumber(ARGV[5])
  if not later then remaining = math.min(remaining, kept.remaining or remaining) end
  kept.remaining = remaining
  kept.limit = tonumber(ARGV[4]) or kept.limit
  kept.window = tonumber(ARGV[6]) or kept.window
  local pause = now + ARGV[7]
  if remaining > 0 then blocked = 0 elseif later then blocked = pause else blocked = math.max(blocked, pause) end
  redis.call('HSET', KEYS[1], 'remaining', remaining, 'blocked', blocked, 'settled', string.format('%.0f', micros))
  if kept.limit then redis.call('HSET', KEYS[1], 'limit', kept.limit) end
  if kept.window then redis.call('HSET', KEYS[1], 'window', kept.window) end
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
end
return view('', math.max(0, blocked - now))`;

const nothingKnown: BudgetView = {
  limit: undefined,
  remaining: undefined,
  windowSeconds: undefined,
  blockedMs: 0,
};

type Answer = [entry: string, limit: string, remaining: string, window: string, blocked: number];

/**
 * Budgets that all replicas count together, timed by Redis' clock. Limits of an address, which replicas need not
 * have in common, and those whose Redis is away, this process counts for itself.
 */
export class RedisBudgetLedger implements BudgetLedger {
  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
    /** User names are credentials' halves: Redis gets them hashed with it. */
    private readonly secret: string,
    private readonly local: BudgetLedger,
  ) {}

  async enter(account: Account, counted: boolean): Promise<Entered> {
    const key = this.#keyOf(account);
    if (key === undefined) return this.local.enter(account, counted);
    const times = [probeMs, forgetMs, shortMs, lifetimeMs];
    const answer = await this.link.call((client) =>
      client.eval(enterScript, 1, key, counted ? 1 : 0, ...times),
    );
    if (answer === unavailable) return this.local.enter(account, counted);
    const [began] = answer as Answer;
    const view = readView(answer as Answer);
    return { entry: began === '' ? undefined : { began, counted }, view };
  }

  async leave(account: Account, entry: Entry, said: Said): Promise<BudgetView> {
    const key = this.#keyOf(account);
    const [knowledge, began] = entry.began.split(' ');
    if (key === undefined || began === undefined) return this.local.leave(account, entry, said);
    const known = knowledge === 'known';
    if (!known && (said.how === 'silent' || said.how === 'lost')) return nothingKnown;
    const { how, limit = '', remaining = '', windowSeconds = '', pauseMs } = said;
    const counted = known && entry.counted ? 1 : 0;
    const told = [how, limit, remaining, windowSeconds, pauseMs, lifetimeMs];
    const answer = await this.link.call((client) =>
      client.eval(leaveScript, 1, key, began, counted, ...told),
    );
    if (answer !== unavailable) return readView(answer as Answer);
    return this.local.leave(account, { began: '0', counted: false }, said);
  }

  #keyOf({ host, username }: Account): string | undefined {
    if (username === undefined) return undefined;
    const hash = createHmac('sha256', this.secret).update(`budget\n${host}\n${username}`).digest('hex');
    return this.keys.budget(`${host}:${hash.slice(0, 32)}`);
  }
}

function readView([, limit, remaining, window, blockedMs]: Answer): BudgetView {
  return {
    limit: readNumber(limit),
    remaining: readNumber(remaining),
    windowSeconds: readNumber(window),
    blockedMs,
  };
}

function readNumber(text: string): number | undefined {
  return text === '' ? undefined : Number(text);
}
