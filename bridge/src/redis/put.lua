-- In the entry's slot: KEYS[1] is the entry, KEYS[2] its lease; ARGV its value, how long to keep it (ms), its ticket's id
-- and era, and the holder whose lease ends with this (or nothing).
-- Answers 0 if one with a newer ticket is there already. Which of two eras is newer doesn't show: the later store wins,
-- and if it was the older, a lookup finds it void. The pattern is what `entry.rs` writes.
local held = redis.call('GET', KEYS[2])
local function settled(answer)
  local over = held == ARGV[5] or held == 'pass' and answer == 1 -- what couldn't be stored can be
  if held and over then redis.call('DEL', KEYS[2]) end
  return answer
end
local stored = redis.call('GETRANGE', KEYS[1], 9, 300)
local id, era = stored:match('^{"ticket":{"at":"(%d+%-%d+)%-%x+","era":"(%x+)"}')
if era == ARGV[4] and before(ARGV[3], id) then return settled(0) end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) -- before anything that takes no room: see `insist` in log.lua
return settled(set.err and set or 1)
