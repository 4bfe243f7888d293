#!lua flags=no-writes
-- Tell how many events a stream has, and how many more events than entries its producers have ever added.
--
-- KEYS  1 the stream   2 the ledger of events
-- answer  {events, more}

-- include: server/events.lua

local last = last_line(KEYS[2])
local events = count_events(redis.call('XLEN', KEYS[1]), KEYS[2])
return {events, last and last.events - last.entries or 0}
