#!lua flags=allow-oom
-- Keep dead letters on a server that is at maxmemory, as long as it is no more than a tenth above it.
--
-- KEYS[1]  the stream of the letters
-- ARGV     a letter each
-- answer   how many are kept: all of them; an error OOM: none
--
-- With its letter an entry is acknowledged and trimmed, and that is what makes room: consumers that wait for room
-- before they acknowledge would wait for ever.

local memory = redis.pcall('INFO', 'memory')
local function figure(name) return type(memory) == 'string' and tonumber(string.match(memory, name .. ':(%d+)')) end
local used, limit, size = figure('used_memory'), figure('maxmemory'), 0
for i = 1, #ARGV do size = size + #ARGV[i] end
if not used or not limit or (limit > 0 and used + 2 * size > 1.1 * limit) then
  return redis.error_reply("OOM more than a tenth above 'maxmemory', or how much is used can't be told")
end
for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'letter', ARGV[i]) end
return #ARGV
