-- Remove from a stream what every group has acknowledged, and nothing else; gives how many entries went.
--
-- The smallest id that some group still needs is its oldest pending entry, or else the entry after the
-- last one delivered to it. Read and trimmed in one step: no delivery can come in between. A stream
-- without a group keeps everything, since nobody has acknowledged anything.

local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  -- As texts: Lua's numbers hold 53 bits, and a sequence has 64.
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end

local function trim_acknowledged(stream)
  if redis.call('EXISTS', stream) == 0 then return 0 end
  local needed, after_delivered = nil, false
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    local delivered = info['last-delivered-id']
    local oldest = redis.call('XPENDING', stream, info['name'])[2]
    -- A group that was set back (XGROUP SETID) reads again what lies before its pending entries.
    if oldest and is_before(delivered, oldest) then oldest = nil end
    local first = oldest or delivered
    if needed == nil or is_before(first, needed) then
      needed, after_delivered = first, not oldest
    elseif first == needed and oldest then
      after_delivered = false
    end
  end
  if needed == nil then return 0 end
  if after_delivered then
    -- Behind the last possible id the server takes no range, and there is nothing.
    local is_last = needed == '18446744073709551615-18446744073709551615'
    local following = not is_last and redis.call('XRANGE', stream, '(' .. needed, '+', 'COUNT', 1)[1]
    -- Nothing follows: all is acknowledged, and the stream remembers its newest id without any entry.
    if not following then return redis.call('XTRIM', stream, 'MAXLEN', '=', 0) end
    needed = following[1]
  end
  return redis.call('XTRIM', stream, 'MINID', '=', needed)
end
