-- KEYS[1] is the entry and KEYS[2] its lease, in one slot: a holder in hexadecimal, or `pass`.

local function left(key) return math.max(redis.call('PTTL', key), 0) end

-- Grants it for so long (ms), unless somebody else holds it or there is nothing to wait for.
local function grant(holder, ttl)
  local held = redis.call('GET', KEYS[2])
  if held and held ~= holder then return { held == 'pass' and 'pass' or 'held', left(KEYS[2]) } end
  redis.pcall('SET', KEYS[2], holder, 'PX', ttl) -- a server that is full or read-only forgets it: a second fetch
  return { 'granted', 0 }
end
