-- Remove our own name from the group, where nothing is pending under it.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  our name
-- answer   how many were removed: 0 or 1
--
-- In one step: XGROUP DELCONSUMER throws pending entries away, and a read of ours may still be under way.
-- It is then served before this, and is pending; or after it, and makes the name anew.

for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  if info['name'] == ARGV[2] and info['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
