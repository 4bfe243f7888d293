#!lua flags=allow-oom
-- Take the lease, keep it, or give it back.
--
-- KEYS[1]  the lease: its value is who holds it
-- ARGV[1]  who asks
-- ARGV[2]  how long it is theirs from now on, in milliseconds; 0: they give it back
-- answer   1 where it is theirs, else 0
--
-- In one step: between a look at who holds it and the renewal it could expire and be another's. It works at
-- maxmemory too (the first line asks for that): a full server is what somebody wants to see.

local holder = redis.call('GET', KEYS[1])
if ARGV[2] == '0' then
  -- Expired at once and not deleted: it needs no right but the one to write it.
  if holder == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', 1) end
  return 0
end
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
