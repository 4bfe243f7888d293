#!lua flags=allow-oom
-- Acknowledge an entry that was too large to be read, and keep all of it beside the stream if there is room.
--
-- KEYS  1 the stream   2 the side stream
-- ARGV  1 the group    2 the entry's id   3 its size in bytes   4 bytes of a piece   5 most pieces on the side
-- answer  how many pieces are kept; 0: none, for want of memory or of a right; -1: somebody else has ended it
--
-- All names and values in turn, each as LENGTH:BYTES, are cut into pieces: entries of their own with the fields
-- `entry`, `part`, `of` and `bytes`. So no reply is longer than a piece, and the side stream is bounded in bytes.
-- The acknowledgement comes first: an entry that somebody else has ended is not kept twice.

-- include: consuming/reading/large.lua

local stream, side, id = KEYS[1], KEYS[2], ARGV[2]
local piece, most = tonumber(ARGV[4]), tonumber(ARGV[5])

if redis.call('XACK', stream, ARGV[1], id) == 0 then return -1 end
local memory = redis.pcall('INFO', 'memory')
if type(memory) ~= 'string' then return 0 end
local used = tonumber(string.match(memory, 'used_memory:(%d+)'))
local limit = tonumber(string.match(memory, 'maxmemory:(%d+)') or 0)
if limit == 0 then limit = tonumber(string.match(memory, 'total_system_memory:(%d+)') or 0) end
-- The copy, and what is made of it on the way: Lua's, the reply's and the append-only file's.
if used + 4 * tonumber(ARGV[3]) > limit then return 0 end
most = math.min(most, math.floor(limit / 4 / piece))

local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then return 0 end
local fields, total = entry[2], 0
for i = 1, #fields do total = total + #fields[i] + #tostring(#fields[i]) + 1 end
local of = math.ceil(total / piece)
if of > most then return 0 end
-- Whole entries make room: the end of one is of no use.
local kept = redis.pcall('XLEN', side)
if type(kept) ~= 'number' then return 0 end
while kept + of > most do
  local oldest = redis.call('XRANGE', side, '-', '+', 'COUNT', 1)[1]
  local pieces = 1
  for i = 1, #oldest[2], 2 do
    if oldest[2][i] == 'of' then pieces = math.max(1, tonumber(oldest[2][i + 1]) or 1) end
  end
  redis.call('XTRIM', side, 'MAXLEN', '=', math.max(0, kept - pieces))
  kept = redis.call('XLEN', side)
end

local waiting, room, part = {}, piece, 0
local function flush()
  part = part + 1
  redis.call('XADD', side, '*', 'entry', id, 'part', part, 'of', of, 'bytes', table.concat(waiting))
  waiting, room = {}, piece
end
local function put(text)
  local at = 1
  while at <= #text do
    local some = string.sub(text, at, at + room - 1)
    waiting[#waiting + 1] = some
    at, room = at + #some, room - #some
    if room == 0 then flush() end
  end
end
for i = 1, #fields do
  put(#fields[i] .. ':')
  put(fields[i])
end
if #waiting > 0 then flush() end
entry, fields, waiting = nil, nil, nil
collectgarbage()
return part
