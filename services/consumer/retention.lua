-- Remove from the stream what every group has acknowledged, and nothing else.
--
-- KEYS[1]  the stream
-- answer   how many entries were removed
--
-- The smallest id that some group still needs is its oldest pending entry, or else the entry after the
-- last one delivered to it. Read and trimmed in one step: no delivery can come in between. A stream
-- without a group keeps everything, since nobody has acknowledged anything.

local stream = KEYS[1]
local function named(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  -- As texts: Lua's numbers hold 53 bits, and a sequence has 64.
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end

if redis.call('EXISTS', stream) == 0 then return 0 end
local groups = redis.call('XINFO', 'GROUPS', stream)
if #groups == 0 then return 0 end

local needed = nil
local after_delivered = false
for _, group in ipairs(groups) do
  local info = named(group)
  local oldest = redis.call('XPENDING', stream, info['name'])[2]
  local delivered = info['last-delivered-id']
  -- A group that was set back (XGROUP SETID) reads again what lies before its pending entries.
  if oldest and is_before(delivered, oldest) then oldest = nil end
  local first = oldest or delivered
  if needed == nil or is_before(first, needed) then
    needed = first
    after_delivered = not oldest
  elseif first == needed and oldest then
    after_delivered = false
  end
end
if after_delivered then
  local next_entry = redis.call('XRANGE', stream, '(' .. needed, '+', 'COUNT', 1)[1]
  if not next_entry then
    -- All is acknowledged. The stream remembers its newest id without any entry.
    return redis.call('XTRIM', stream, 'MAXLEN', '=', 0)
  end
  needed = next_entry[1]
end
return redis.call('XTRIM', stream, 'MINID', '=', needed)
