-- Remove from the stream what every group has acknowledged, and nothing else.
--
-- KEYS[1]  the stream
-- answer   how many entries were removed

-- include: acknowledged.lua

return trim_acknowledged(KEYS[1])
