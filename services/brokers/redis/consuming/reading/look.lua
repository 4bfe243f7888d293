#!lua flags=no-writes
-- Tell how large pending entries are: nothing of their content leaves the server.
--
-- KEYS[1]  the stream
-- ARGV[1]  weight at which to stop looking   2 the id whose beginning is wanted, or empty   3 on: ids
-- answer   for each id in turn, until the weight is reached: {size in bytes, weight}, {-1, 0} for one that is
--          gone; and last the beginning of the wanted one, empty without it
--
-- One entry at a time, and collected at once: the server holds two copies of one entry, and for that moment.

-- include: consuming/reading/large.lua

local looks, begins, weight = {}, {}, 0
for i = 3, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local one = weight_of(entry[2])
    looks[#looks + 1] = {size_of(entry[2]), one}
    if ARGV[i] == ARGV[2] then begins = beginning(entry[2]) end
    weight = weight + one
  else
    looks[#looks + 1] = {-1, 0}
  end
  if weight >= tonumber(ARGV[1]) then
    entry = nil
    collectgarbage()
    break
  end
end
looks[#looks + 1] = begins
return looks
