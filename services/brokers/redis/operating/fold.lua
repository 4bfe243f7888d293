#!lua
-- Let go of the record of a run that is ended and proven; name, last number and a replay's position stay.
--
-- KEYS  1 the run's hash   2 the set of runs   3 what is kept of folded runs   4 on: its chunks of ids
-- ARGV  1 the run   2, 3, 4 its last number, events without a readable id, and ids that it did not number, as read
-- answer  1; 0 where the record says something else by now, and is left as it is

local call = redis.call
local known = call('HMGET', KEYS[1], 'last', 'unnumbered', 'foreign', 'offset')
if known[1] then
  for i = 1, 3 do
    if (known[i] or '0') ~= ARGV[i + 1] then return 0 end
  end
end
call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
call('SREM', KEYS[2], ARGV[1])
-- The hash of a replay has its position: `--resume` goes on behind it, in a run of its own.
if not known[4] then call('DEL', KEYS[1]) end
if #KEYS > 3 then call('DEL', unpack(KEYS, 4)) end
return 1
