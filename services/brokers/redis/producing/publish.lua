#!lua
-- Publish one batch and the record of it, in one step.
--
-- KEYS  1 the stream   2 the run's hash   3 the set of runs   4 the run's foreign ids
--       5 (with drop_oldest) how many entries we have removed so far, if somebody counts them
-- ARGV  1 the run          2 its writer        3 the number of this batch, from 1
--       4 entries at which the stream is full; 0: never        5 `block` or `drop_oldest`
--       6 entries in this batch                7 the run's last sequence number with this batch
--       8, 9, 10 how many are published (distinct and numbered), duplicates, unnumbered
--       11 Unix seconds    12 foreign ids, 16 bytes each
--       13, 14, 15 a replay's byte offset, line, and 1 when it is done; offset empty: no replay
--       16 the `traceparent` of ordinary events; empty: they have none
--       17 on, in pieces, each opened by a number n:
--          n = 0: a text with ordinary events follows, six lines each: values in the contract's order
--          n > 0: one event of another form follows, n names and values in turn
-- answer  {what happened, entries dropped that somebody still needed, batches of the run, its last number}
--       applied, or already (the answer to it was lost); full: nothing is written;
--       exhausted: so near the last possible id that not all of it can follow; nothing is written;
--       gone: there is no such run; taken: another process writes it; behind: writes were lost
--
-- The count of batches makes it safe to send a batch again. The server refuses a script before it
-- starts when memory is short (the first line asks for that), and wrong types show at the reads, so
-- nothing is ever written by half.

local call = redis.call
local stream, run = KEYS[1], KEYS[2]

-- include: server/acknowledged.lua

local known = call('HMGET', run, 'batches', 'writer', 'last')
if not known[1] then return {'gone', 0, 0, 0} end
local batches, last = tonumber(known[1]), tonumber(known[3] or '0')
local number = tonumber(ARGV[3])
if known[2] ~= ARGV[2] or batches > number then return {'taken', 0, batches, last} end
if batches == number then return {'already', 0, batches, last} end
if batches < number - 1 then return {'behind', 0, batches, last} end

local most, events = tonumber(ARGV[4]), tonumber(ARGV[6])
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

-- Ids end at 2^64 - 1, and somebody can set them there by hand: the server would take a part of the batch.
-- Who may not look at the newest one (the same command reads events) sees what groups were given. Rights are
-- asked for before: what a server refuses it writes into its ACL LOG.
local infos = {}
if redis.acl_check_cmd('XINFO', 'STREAM', stream) then
  infos = {redis.pcall('XINFO', 'STREAM', stream)}
elseif redis.acl_check_cmd('XINFO', 'GROUPS', stream) then
  infos = redis.pcall('XINFO', 'GROUPS', stream)
end
for _, info in ipairs(infos) do
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' or info[i] == 'last-delivered-id' then
      local ms, seq = string.match(info[i + 1], '(%d+)-(%d+)')
      -- Lua's numbers are exact to 2048 there.
      if ms == '18446744073709551615' and tonumber(seq) + events > 18446744073709547520 then
        return {'exhausted', 0, batches, last}
      end
    end
  end
end

if is_full then
  -- Before the trim, too: who may not count goes on without.
  local may = redis.acl_check_cmd
  local counts = may('EXISTS', KEYS[5]) and may('INCRBY', KEYS[5], 1) and call('EXISTS', KEYS[5]) == 1
  local removed = trim_acknowledged(stream)
  if call('XLEN', stream) + events > most then
    dropped = call('XTRIM', stream, 'MAXLEN', '=', most - events)
    removed = removed + dropped
  end
  if counts then call('INCRBY', KEYS[5], removed) end
end

call('SADD', KEYS[3], ARGV[1])
local argv, at, size = ARGV, 17, #ARGV
local trace = argv[16] ~= '' and {'traceparent', argv[16]} or {}
local six_lines = string.rep('([^\n]*)\n', 6)
while at <= size do
  local n = tonumber(argv[at])
  if n == 0 then
    -- One text for all of them: cutting it here is cheaper than thousands of arguments on the way.
    for id, device, zone, ts, kpi, value in string.gmatch(argv[at + 1], six_lines) do
      call('XADD', stream, '*', 'event_id', id, 'device_id', device, 'zone', zone,
        'ts', ts, 'kpi', kpi, 'value', value, unpack(trace))
    end
    at = at + 2
  else
    call('XADD', stream, '*', unpack(argv, at + 1, at + n))
    at = at + 1 + n
  end
end

call('HSET', run, 'batches', number, 'last', argv[7], 'updated_at', argv[11])
for i, name in ipairs({'published', 'duplicates', 'unnumbered'}) do
  if argv[7 + i] ~= '0' then call('HINCRBY', run, name, argv[7 + i]) end
end
if argv[12] ~= '' then call('APPEND', KEYS[4], argv[12]) end
if argv[13] ~= '' then call('HSET', run, 'offset', argv[13], 'line', argv[14], 'done', argv[15]) end
return {'applied', dropped, number, tonumber(argv[7])}
