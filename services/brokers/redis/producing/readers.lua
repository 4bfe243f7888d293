-- Who of a stream's readers can't read packed entries; nil where each of them does.
--
-- Of each group one consumer at least has said that it does, and every one that was there within the last hour
-- said so for as long as it was: who reads without saying it is of an earlier version, or somebody else's program.

local reading_ms = 3600000

local function pairs_of(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end

local function reads_until(told)
  local form, until_ms = string.match(told or '', '^(%d+) (%d+)$')
  return form and tonumber(form) >= 2 and tonumber(until_ms) or nil
end

local function who_reads_flat(stream, forms)
  -- The rights come together: who has this one and lacks another finds it in the server's ACL LOG.
  if not redis.acl_check_cmd('HMGET', forms, 'a') then return 'NOPERM' end
  local now, groups = now_ms(), redis.pcall('XINFO', 'GROUPS', stream)
  -- Before anything was published and no consumer began there is no stream, and so no group either.
  if now and groups.err and string.find(groups.err, 'no such key', 1, true) then return '/' end
  if not now or groups.err then return 'NOPERM' end
  if #groups == 0 then return '/' end
  for _, group in ipairs(groups) do
    local name = pairs_of(group).name
    local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, name)
    if consumers.err then return 'NOPERM' end
    local names, told = {}, {}
    for i, consumer in ipairs(consumers) do
      consumers[i] = pairs_of(consumer)
      names[i] = name_in_forms(name, consumers[i].name)
    end
    -- So many at once as the stack of a script has room for.
    for first = 1, #names, 1000 do
      local some = redis.pcall('HMGET', forms, unpack(names, first, math.min(first + 999, #names)))
      for i, text in ipairs(some.err and {} or some) do told[first + i - 1] = text end
    end
    local has_said = false
    for i, consumer in ipairs(consumers) do
      local until_ms = reads_until(told[i])
      has_said = has_said or until_ms
      if consumer.idle < reading_ms and not (until_ms and until_ms >= now - consumer.idle) then return names[i] end
    end
    if not has_said then return name_in_forms(name, '') end
  end
  return nil
end
