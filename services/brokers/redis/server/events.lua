-- How many events are in a stream whose entries may have many, by a ledger that its producers keep.
--
--   {stream}:events   stream   C-0 {events: E}: the first C entries that they have added have E events; of
--                              those that were added while there was no ledger, none counts in either
--
-- Entries go from the beginning, so the ones that are there are those added last. What others have added counts
-- as entries of ours from before: the number may be too high by that and by a batch, and never too low. A ledger of
-- one line has ended: entries have one event each. Where it can't be read, each counts as one, too.

local function line_of(ledger, from, to, find)
  local found = redis.pcall(find, ledger, from, to, 'COUNT', 1)
  local line = not found.err and found[1]
  local entries, events = line and tonumber(string.match(line[1], '^%d+')), line and tonumber(line[2][2])
  return entries and events and {entries = entries, events = events} or nil
end

local function last_line(ledger)
  return line_of(ledger, '+', '-', 'XREVRANGE')
end

-- Gives also the ledger's last line and the one that the entries begin behind; neither where it has ended.
local function count_events(length, ledger)
  local lines = ledger and redis.pcall('XLEN', ledger)
  if type(lines) ~= 'number' or lines < 2 then return length end
  local last = last_line(ledger)
  if not last then return length end
  local before = math.max(0, last.entries - length)
  local from = line_of(ledger, string.format('%d-0', before), '-', 'XREVRANGE')
  if from then return last.events - from.events, last, from end
  from = line_of(ledger, '-', '+', 'XRANGE')
  if not from then return length end
  -- What is before its first line has one event each.
  return last.events - from.events + length - (last.entries - from.entries), last, from
end

-- How many events an entry has: of an entry that says it wrongly, one.
local function events_of(fields)
  if #fields >= 12 then return 1 end
  for i = 1, #fields, 2 do
    if fields[i] == 'events' then return math.max(1, tonumber(string.match(fields[i + 1], '^%d%d?%d?%d?%d?$')) or 1) end
  end
  return 1
end
