#!lua flags=no-writes
-- Tell what XINFO STREAM tells, but for the content of the first and the last entry, which may be large.
--
-- KEYS[1]  the stream
-- answer   names and values in turn; of the two entries {id}, or nothing

local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then return info end
for i = 1, #info, 2 do
  if info[i] == 'first-entry' or info[i] == 'last-entry' then
    info[i + 1] = info[i + 1] and {info[i + 1][1]}
  end
end
return info
