#!lua flags=no-writes
-- Count entries behind an id, so many or until four megabytes of them were gone through.
--
-- KEYS[1]  the stream
-- ARGV[1]  where the range begins   2 most entries
-- answer   {how many, the id of the first, the id of the last}; {0} without any

local most, counted, step, seen = tonumber(ARGV[2]), 0, 1, 0
local start, first, last, page = ARGV[1], nil, nil, nil
repeat
  page = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', math.min(step, most - counted))
  for _, entry in ipairs(page) do
    first, last = first or entry[1], entry[1]
    for i = 1, #entry[2] do seen = seen + #entry[2][i] end
  end
  counted = counted + #page
  if #page < step or not last or last == '18446744073709551615-18446744073709551615' then break end
  start, step = '(' .. last, math.min(step * 2, 64)
until counted >= most or seen > 4194304
if counted == 0 then return {0} end
return {counted, first, last}
