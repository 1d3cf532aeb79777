-- Before an entry is stored: its ticket (id, unique, era), its tags, the keys of their epochs, and how many records this may
-- read to prove something. Answers whether it can ever be valid. Absent epochs are created: as old as the ticket if the log
-- proves that nothing purged the tag since, else as new as the log's tail, which makes the entry invalid: the safe side.
local function settle(at, unique, era, tags, epochs, proof_max)
  local last = tail()
  if field(last, 'era') ~= era or lost(at, unique) then return false end

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

  local servable = true
  for i, key in ipairs(epochs) do
    local epoch = redis.call('GET', key)
    if not epoch then
      epoch = proven(tags[i]) and at or last[1]
      redis.call('SET', key, epoch, 'PX', WEEK)
    end
    for purged in epoch:gmatch('[^,]+') do -- what was purged softly meanwhile would only be stale
      if before(at, purged) then servable = false end
    end
  end
  return servable
end

-- All that an entry depends on outlives it. After what takes room: a server that is full is to refuse before (`insist`).
local function renew(epochs)
  for _, keys in ipairs({ { LOG, CLOCK }, epochs }) do
    for _, key in ipairs(keys) do redis.call('PEXPIRE', key, WEEK) end
  end
end
