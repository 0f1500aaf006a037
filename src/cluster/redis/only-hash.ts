/** Lua: removes KEYS[1] unless it is a hash. No replica wrote it then, and the hash that belongs there can be written. */
export const onlyHash = `if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end`;
