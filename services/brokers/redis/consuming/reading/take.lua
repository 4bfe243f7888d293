#!lua flags=allow-oom
-- Take new entries, as many as are light enough together, and of one that is too large the beginning alone.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group   2 the consumer   3 most entries   4 most weight   5 most bytes of an entry
--      6   bytes that any valid event may have
-- answer   1 where an entry follows that is large and was too much beside these, else 0; and then
--          entries: {id, 0, names and values}; or one alone: {id, its size in bytes, its beginning}
--
-- In one step: an entry that was looked at is the one that is delivered, however many consumers there are.

-- include: consuming/reading/large.lua

local stream, most, room, longest = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function deliver(count)
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count, 'STREAMS', stream, '>')
  return reply and reply[1][2] or {}
end

local after
if redis.call('EXISTS', stream) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    if info['name'] == ARGV[1] then after = info['last-delivered-id'] end
  end
end
if not after then return {0, deliver(1)} end -- the server's own words for a group that is gone

local light, step, page = 0, 1, nil
local is_large, is_more, is_heavy_next = false, false, false
local is_full = after == '18446744073709551615-18446744073709551615'
while light < most and not is_full do
  page = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', math.min(step, most - light))
  for _, entry in ipairs(page) do
    local is_too_large = size_of(entry[2]) > longest
    after, room = entry[1], room - weight_of(entry[2])
    is_large = is_too_large and light == 0
    is_more = is_too_large or (room < 0 and light > 0)
    if is_more then
      is_heavy_next = is_too_large or is_heavy(entry[2], tonumber(ARGV[6]))
      break
    end
    light = light + 1
  end
  is_full = is_more or room < 0 or #page < step
  step = math.min(step * 2, 16)
end
page = nil
if is_large then
  local entry = deliver(1)[1]
  local large = {{entry[1], size_of(entry[2]), beginning(entry[2])}}
  entry = nil
  collectgarbage()
  return {1, large}
end
local taken = {}
if light > 0 then
  for i, entry in ipairs(deliver(light)) do taken[i] = {entry[1], 0, entry[2]} end
end
return {is_heavy_next and 1 or 0, taken}
