-- Remove consumers from the group that are long gone and have nothing pending.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  idle time from which on a consumer is gone, in milliseconds
-- ARGV[3]  our own name, which stays
-- answer   how many were removed
--
-- In one step: XGROUP DELCONSUMER throws a consumer's pending entries away, so between the look and
-- the removal nothing may be delivered to it.

local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  if info['pending'] == 0 and info['idle'] >= tonumber(ARGV[2]) and info['name'] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info['name'])
    removed = removed + 1
  end
end
return removed
