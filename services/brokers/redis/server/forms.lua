-- Which forms of an entry the consumers of a stream read, as they say themselves.
--
--   {stream}:forms   hash   GROUP/CONSUMER -> the newest form that it reads, and until when that holds, in ms
--
-- Form 1 is an entry of one event, form 2 one of many. Times are the server's own. A % or / of a group's name is
-- written %25 or %2F, so that two never share a name.

local function name_in_forms(group, consumer)
  return string.gsub(string.gsub(group, '%%', '%%25'), '/', '%%2F') .. '/' .. consumer
end

local function now_ms()
  local now = redis.pcall('TIME')
  if now.err then return nil end
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
