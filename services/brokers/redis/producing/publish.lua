#!lua
-- Publish one batch and the record of it, in one step.
--
-- KEYS  1 the stream   2 the run's hash   3 the set of runs   4 the chunk of its foreign ids that these go to
--       5 the ledger of events   6 which forms of an entry consumers read
--       7 (with drop_oldest) how many entries we have removed so far, if somebody counts them
--       The stream itself in place of 5 and 6: this user has no right to them.
-- ARGV  1 the run          2 its writer        3 the number of this batch, from 1
--       4 events at which the stream is full; 0: never        5 `block` or `drop_oldest`
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
--          n < 0: a text with -n ordinary events follows, a line each, for one entry
-- answer  {what happened, events dropped that somebody still needed, batches of the run, its last number,
--          events of the batch that are there where it was cut, why it was cut,
--          who can't read entries of many events, so that each has one: `GROUP/CONSUMER`; empty: nobody}
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
-- include: server/events.lua
-- include: server/forms.lua
-- include: producing/readers.lua

-- Remove entries from the beginning until so many events are gone; gives how many, and of how many entries.
local function drop_oldest(wanted)
  local gone, entries = 0, 0
  repeat
    local some = 0
    for _, entry in ipairs(call('XRANGE', stream, '-', '+', 'COUNT', math.min(wanted - gone, 64))) do
      if gone >= wanted then break end
      some = some + 1
      gone = gone + events_of(entry[2])
    end
    if some > 0 then call('XTRIM', stream, 'MAXLEN', '=', call('XLEN', stream) - some) end
    entries = entries + some
  until gone >= wanted or some == 0
  return gone, entries
end

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
local ledger, forms = KEYS[5] ~= stream and KEYS[5], KEYS[6] ~= stream and KEYS[6]
local there, last_counted, counted_from = count_events(call('XLEN', stream), ledger)
call('SCARD', KEYS[3])
call('STRLEN', KEYS[4])
local is_full = most > 0 and events > 0 and there + events > most
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
  local counts = may('EXISTS', KEYS[7]) and may('INCRBY', KEYS[7], 1) and call('EXISTS', KEYS[7]) == 1
  if counts then call('INCRBY', KEYS[7], 0) end -- what is no number shows here
  local removed = trim_acknowledged(stream)
  there, last_counted, counted_from = count_events(call('XLEN', stream), ledger)
  if there + events > most and not last_counted then
    dropped = call('XTRIM', stream, 'MAXLEN', '=', most - events)
    removed = removed + dropped
  elseif there + events > most then
    local entries
    dropped, entries = drop_oldest(there + events - most)
    removed = removed + entries
  end
  if counts then call('INCRBY', KEYS[7], removed) end
end

call('SADD', KEYS[3], ARGV[1])
local argv, at, size, try, type = ARGV, 14, #ARGV, redis.pcall, type
local trace = argv[13] ~= '' and {'traceparent', argv[13]} or {}
local six_lines, six_columns = string.rep('([^\n]*)\n', 6), string.rep('([^\n\t]*)\t', 5) .. '([^\n\t]*)\n'
local written, entries, fault = 0, 0, nil
local is_packed, reads_flat = false, nil
local function note(entry, number)
  if type(entry) == 'table' then
    fault = entry
  else
    written, entries = written + number, entries + 1
  end
end
local function add_each(text, form)
  -- One text for all of them: cutting it here is cheaper than thousands of arguments on the way.
  local added = 0
  for id, device, zone, ts, kpi, value in string.gmatch(text, form) do
    local entry = try('XADD', stream, '*', 'event_id', id, 'device_id', device, 'zone', zone,
      'ts', ts, 'kpi', kpi, 'value', value, unpack(trace))
    if type(entry) == 'table' then
      fault = entry
      break
    end
    added = added + 1
  end
  written, entries = written + added, entries + added
end
while at <= size and not fault do
  local n = tonumber(argv[at])
  if n < 0 and not is_packed and not reads_flat then
    -- In this same step: who begins to read later finds what is there, and who reads now is known.
    reads_flat = forms and who_reads_flat(stream, forms) or nil
    if not forms then reads_flat = 'NOPERM' end
    is_packed = not reads_flat
  end
  if n == 0 then
    add_each(argv[at + 1], six_lines)
    at = at + 2
  elseif n > 0 then
    note(try('XADD', stream, '*', unpack(argv, at + 1, at + n)), 1)
    at = at + 1 + n
  elseif is_packed then
    note(try('XADD', stream, '*', 'events', -n, 'lines', argv[at + 1], unpack(trace)), -n)
    at = at + 2
  else
    add_each(argv[at + 1], six_columns)
    at = at + 2
  end
end
if fault and written == 0 then return fault end

-- The ledger begins with the first entry of many events, and ends when those that are there have one each.
local counts_events = ledger and (last_counted or written > entries)
if counts_events then
  local keep, how = 'MAXLEN', 1
  if not last_counted then
    local former = last_line(ledger) or {entries = 0, events = 0}
    last_counted = {entries = former.entries + 1, events = former.events + 1}
    try('XADD', ledger, keep, '=', how, string.format('%d-0', last_counted.entries), 'events', last_counted.events)
    counted_from = last_counted
  end
  local had = last_counted.events - counted_from.events - (last_counted.entries - counted_from.entries)
  if had > 0 or written > entries then
    keep, how = 'MINID', string.format('%d-0', counted_from.entries)
  end
  try('XADD', ledger, keep, '=', how, string.format('%d-0', last_counted.entries + entries),
    'events', last_counted.events + written)
end

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
if fault then return {'cut', dropped, number, last, written, fault.err, ''} end
if argv[10] ~= '' then call('HSET', run, 'offset', argv[10], 'line', argv[11], 'done', argv[12]) end
return {'applied', dropped, number, last, 0, '', reads_flat or ''}
