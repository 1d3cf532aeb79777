-- Puts an entry in its place, for so long (ms), and ends the lease of the holder: `entry` and `lease` are in one slot; `at` and
-- `era` are its ticket's, the holder may be empty. Answers 0 if one with a newer ticket is there already. Which of two eras is
-- newer doesn't show: the later store wins, and if it was the older, a lookup finds it void. The pattern is what `entry.rs` writes.
local function put(entry, lease, value, keep, at, era, holder)
  local held = redis.call('GET', lease)
  local function settled(answer)
    local over = held == holder or held == 'pass' and answer == 1 -- what couldn't be stored can be
    if held and over then redis.call('DEL', lease) end
    return answer
  end
  local stored = redis.call('GETRANGE', entry, 9, 300)
  local id, of = stored:match('^{"ticket":{"at":"(%d+%-%d+)%-%x+","era":"(%x+)"}')
  if of == era and before(at, id) then return settled(0) end
  local set = redis.pcall('SET', entry, value, 'PX', keep) -- before anything that takes no room: see `insist` in log.lua
  return settled(set.err and set or 1)
end
