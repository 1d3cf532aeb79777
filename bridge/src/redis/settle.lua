-- Before an entry is stored: KEYS[3…] are the epochs of its tags ARGV[8…]; ARGV[4…6] its ticket (id, unique, era);
-- ARGV[7] how many records this may read to prove something.
-- Answers whether it can ever be valid, and the time. Absent epochs are created: as old as the ticket if the log proves that nothing
-- purged the tag since, else as new as the log's tail, which makes the entry invalid: the safe side.
local at, unique, era = ARGV[4], ARGV[5], ARGV[6]
local proof_max = tonumber(ARGV[7])

local last = tail()
if field(last, 'era') ~= era or lost(at, unique) then return { 0, 0 } end

local purged -- tags since the ticket; false if the log can't tell
local function proven(tag)
  if purged == nil then
    local since = find(at, unique) and redis.call('XRANGE', LOG, '(' .. at, '+', 'COUNT', proof_max + 1)
    purged = since and #since <= proof_max and {}
    for _, record in ipairs(purged and since or {}) do -- none of them flushes: the era is still the ticket's
      for _, name in ipairs(tags_of(record)) do purged[name] = true end
    end
  end
  return purged and not purged[tag]
end

local servable = 1
for i = 3, #KEYS do
  local epoch = redis.call('GET', KEYS[i])
  if not epoch then
    epoch = proven(ARGV[i + 5]) and at or last[1]
    redis.call('SET', KEYS[i], epoch, 'PX', WEEK)
  end
  for purged in epoch:gmatch('[^,]+') do -- what was purged softly meanwhile would only be stale
    if before(at, purged) then servable = 0 end
  end
end
-- All of it outlives the entry. Last, so that a server that is full has refused before.
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], WEEK) end
return { servable, (clock_of(redis.call('GET', CLOCK))) }
