-- How large an entry is, and how it begins. services/contract/consuming/large.py has the same rules.

local function size_of(fields)
  local size = 0
  for i = 1, #fields do size = size + #fields[i] end
  -- Many empty names and values are large as well.
  return math.max(size, #fields)
end

local function weight_of(fields) return size_of(fields) + 64 * #fields end

-- As `burden_of` there: an entry of many events may be large where none of them is.
local function is_heavy(fields, least)
  local size = size_of(fields)
  if size <= least then return false end
  if #fields < 12 then
    for i = 1, #fields - 1, 2 do
      if fields[i] == 'lines' then
        local lines = 0
        for _ in string.gmatch(fields[i + 1], '\n') do lines = lines + 1 end
        return size > least * lines
      end
    end
  end
  return true
end

local function beginning(fields)
  local parts, room = {}, 16384
  for i = 1, math.min(#fields, 64) do
    parts[i] = string.sub(fields[i], 1, math.min(1024, room))
    room = room - #parts[i]
  end
  return parts
end
