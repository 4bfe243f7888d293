#!lua flags=allow-oom
-- Say which forms of an entry we read, before we read any.
--
-- KEYS  1 what each consumer says of that
-- ARGV  1 the group   2 our name   3 the newest form   4 for how long, in ms; 0: up to now, and no longer
--       5 an age in ms: what held until then and no longer is forgotten; empty: nothing is
-- answer  how many were forgotten
--
-- It works at maxmemory too (the first line asks for that): reading makes the room.

-- include: server/forms.lua

local now = now_ms()
if not now then return redis.error_reply('NOPERM this user may not ask for the TIME') end
redis.call('HSET', KEYS[1], name_in_forms(ARGV[1], ARGV[2]), string.format('%d %d', ARGV[3], now + ARGV[4]))
if ARGV[5] == '' then return 0 end
local told, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #told, 2 do
  local until_ms = tonumber(string.match(told[i + 1], '^%d+ (%d+)$') or 0)
  if until_ms < now - ARGV[5] then gone = gone + redis.call('HDEL', KEYS[1], told[i]) end
end
return gone
