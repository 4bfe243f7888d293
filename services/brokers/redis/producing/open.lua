#!lua
-- Open a run.
--
-- KEYS  1 the run's hash   2 the set of runs   3 (a replay's) its pointer to the run
-- ARGV  1 the run   2 on: names and values of the hash, `writer` and its value first
-- answer  1; 0 when there is such a run already, of somebody else

local writer = redis.call('HGET', KEYS[1], 'writer')
-- Our own name in it: it was opened and the answer was lost.
if writer and writer ~= ARGV[3] then return 0 end
redis.call('SCARD', KEYS[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('SADD', KEYS[2], ARGV[1])
if KEYS[3] then redis.call('SET', KEYS[3], ARGV[1]) end
return 1
