-- Remove from the stream what every group has acknowledged, and nothing else.
--
-- KEYS[1]  the stream
-- KEYS[2]  how many entries we have removed so far; may be left out
-- answer   how many entries were removed

-- include: server/acknowledged.lua

local may = redis.acl_check_cmd
local counts = KEYS[2] and may('INCRBY', KEYS[2], 1) and may('SET', KEYS[2], 1) and may('EXISTS', KEYS[2])
local removed = trim_acknowledged(KEYS[1])
if not counts then return removed end
if redis.call('EXISTS', KEYS[2]) == 1 then
  if removed > 0 then redis.call('INCRBY', KEYS[2], removed) end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  -- The first time: whoever removed them, what is gone by now is not held against anybody.
  local about, info = redis.call('XINFO', 'STREAM', KEYS[1]), {}
  for i = 1, #about, 2 do info[about[i]] = about[i + 1] end
  -- Servers before 7.0 do not count what was ever added.
  if info['entries-added'] then redis.call('SET', KEYS[2], info['entries-added'] - info['length']) end
end
return removed
