#!lua
-- Say that nothing more of a run will come.
--
-- KEYS  1 the run's hash
-- ARGV  1 its writer   2 Unix seconds
-- answer  1; 0 where another process writes it, or there is no such run

if redis.call('HGET', KEYS[1], 'writer') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'ended_at', ARGV[2])
return 1
