#!lua
-- Publish one batch and the record of it, in one step.
--
-- KEYS  1 the stream   2 the run's hash   3 the set of runs   4 the chunk of its foreign ids that these go to
--       5 (with drop_oldest) how many entries we have removed so far, if somebody counts them
-- ARGV  1 the run          2 its writer        3 the number of this batch, from 1
--       4 entries at which the stream is full; 0: never        5 `block` or `drop_oldest`
--       6 a letter for each event: n numbered by the run, d a duplicate, f with a foreign id, u with no
--         readable id
--       7 the run's last sequence number with this batch
--       8 Unix seconds    9 foreign ids, 16 bytes each, behind the beginning of a chunk: 16 digits, how many the
--         run has before; or empty
--       10, 11, 12 a replay's byte offset, line, and 1 when it is done; offset empty: no replay
--       13 the `traceparent` of ordinary events; empty: they have none
--       14 on, in pieces, each opened by a number n:
--          n = 0: a text with ordinary events follows, six lines each: values in the contract's order
--          n > 0: one event of another form follows, n names and values in turn
-- answer  {what happened, entries dropped that somebody still needed, batches of the run, its last number,
--          events of the batch that are there where it was cut, why it was cut}
--       applied, or already (the answer to it was lost); full: nothing is written;
--       cut: the server took the first events of it and no more, and the record is of those;
--       exhausted: so near the last possible id that not all of it can follow; nothing is written;
--       gone: there is no such run; taken: another process writes it; behind: writes were lost
--
-- The count of batches makes it safe to send a batch again. The server refuses a script before it starts when
-- memory is short (the first line asks for that); wrong types, numbers and rights show before the first write.
-- What only an XADD can tell cuts the batch, and the record says exactly what is there (docs/decisions/0036).

local call = redis.call
local stream, run = KEYS[1], KEYS[2]

-- include: server/acknowledged.lua

local counted = {'batches', 'last', 'part', 'published', 'duplicates', 'unnumbered'}
local found = call('HMGET', run, 'writer', unpack(counted))
if not found[2] then return {'gone', 0, 0, 0} end
local known = {}
for i, name in ipairs(counted) do
  local text = found[i + 1] or '0'
  -- Within what Lua's numbers hold, and what the server adds to.
  if not string.match(text, '^%d+$') or #text > 15 then
    return redis.error_reply('ERR the record of run ' .. ARGV[1] .. ' has no number as ' .. name)
  end
  known[name] = tonumber(text)
end
local batches, last = known.batches, known.last
local number = tonumber(ARGV[3])
if found[1] ~= ARGV[2] or batches > number then return {'taken', 0, batches, last} end
if batches == number and known.part > 0 then return {'cut', 0, batches, last, known.part, ''} end
if batches == number then return {'already', 0, batches, last} end
if batches < number - 1 then return {'behind', 0, batches, last} end

local most, kinds = tonumber(ARGV[4]), ARGV[6]
local events = #kinds
local dropped = 0
local length = call('XLEN', stream)
call('SCARD', KEYS[3])
call('STRLEN', KEYS[4])
local is_full = most > 0 and events > 0 and length + events > most
if is_full and ARGV[5] == 'block' then return {'full', 0, batches, last} end

-- A right that is missing shows before the first write, too: behind it the batch would be there by half.
for _, write in ipairs({
  {'SADD', KEYS[3], ARGV[1]}, {'XADD', stream, '*', 'a', 'b'}, {'HSET', run, 'a', 'b'},
  {'HINCRBY', run, 'a', 1}, {'APPEND', KEYS[4], 'a'},
}) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user may not ' .. write[1] .. ' ' .. write[2])
  end
end

-- Ids end at 2^64 - 1, and somebody can set them there by hand. Who may look at the newest one (the same
-- command reads events) writes nothing then. Rights are asked for before: what a server refuses it writes into
-- its ACL LOG.
local info = redis.acl_check_cmd('XINFO', 'STREAM', stream) and redis.pcall('XINFO', 'STREAM', stream) or {}
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    local ms, seq = string.match(info[i + 1], '(%d+)-(%d+)')
    -- Lua's numbers are exact to 2048 there.
    if ms == '18446744073709551615' and tonumber(seq) + events > 18446744073709547520 then
      return {'exhausted', 0, batches, last}
    end
  end
end

if is_full then
  -- Before the trim, too: who may not count goes on without.
  local may = redis.acl_check_cmd
  local counts = may('EXISTS', KEYS[5]) and may('INCRBY', KEYS[5], 1) and call('EXISTS', KEYS[5]) == 1
  if counts then call('INCRBY', KEYS[5], 0) end -- what is no number shows here
  local removed = trim_acknowledged(stream)
  if call('XLEN', stream) + events > most then
    dropped = call('XTRIM', stream, 'MAXLEN', '=', most - events)
    removed = removed + dropped
  end
  if counts then call('INCRBY', KEYS[5], removed) end
end

call('SADD', KEYS[3], ARGV[1])
local argv, at, size, try, type = ARGV, 14, #ARGV, redis.pcall, type
local trace = argv[13] ~= '' and {'traceparent', argv[13]} or {}
local six_lines = string.rep('([^\n]*)\n', 6)
local written, fault = 0, nil
while at <= size and not fault do
  local n = tonumber(argv[at])
  if n == 0 then
    -- One text for all of them: cutting it here is cheaper than thousands of arguments on the way.
    for id, device, zone, ts, kpi, value in string.gmatch(argv[at + 1], six_lines) do
      local entry = try('XADD', stream, '*', 'event_id', id, 'device_id', device, 'zone', zone,
        'ts', ts, 'kpi', kpi, 'value', value, unpack(trace))
      if type(entry) == 'table' then
        fault = entry
        break
      end
      written = written + 1
    end
    at = at + 2
  else
    local entry = try('XADD', stream, '*', unpack(argv, at + 1, at + n))
    if type(entry) == 'table' then fault = entry else written = written + 1 end
    at = at + 1 + n
  end
end
if fault and written == 0 then return fault end

-- The record is of what is there, which is all of the batch where nothing went wrong.
local function count(kind, from, to)
  local _, times = string.gsub(string.sub(kinds, from, to), kind, '')
  return times
end
last = tonumber(argv[7]) - (fault and count('n', written + 1, -1) or 0)
call('HSET', run, 'batches', number, 'last', last, 'part', fault and written or 0, 'updated_at', argv[8])
local duplicates, unnumbered, foreign = count('d', 1, written), count('u', 1, written), count('f', 1, written)
local numbered = written - duplicates - unnumbered - foreign
for name, times in pairs({published = numbered, duplicates = duplicates, unnumbered = unnumbered}) do
  if times > 0 then call('HINCRBY', run, name, times) end
end
if foreign > 0 then
  local from = call('STRLEN', KEYS[4]) > 0 and 17 or 1
  call('APPEND', KEYS[4], string.sub(argv[9], from, 16 + 16 * foreign))
  call('HSET', run, 'foreign', tonumber(string.sub(argv[9], 1, 16)) + foreign,
    'chunk', string.match(KEYS[4], '%d+$'))
end
if fault then return {'cut', dropped, number, last, written, fault.err} end
if argv[10] ~= '' then call('HSET', run, 'offset', argv[10], 'line', argv[11], 'done', argv[12]) end
return {'applied', dropped, number, last}
