-- In the entry's slot: KEYS[1] is the entry; ARGV its value, how long to keep it (ms), its ticket's id and era.
-- Answers 0 if one with a newer ticket is there already. Which of two eras is newer doesn't show: the later store wins,
-- and if it was the older, a lookup finds it void. The pattern is what `entry.rs` writes.
local stored = redis.call('GETRANGE', KEYS[1], 9, 300)
local id, era = stored:match('^{"ticket":{"at":"(%d+%-%d+)%-%x+","era":"(%x+)"}')
if era == ARGV[4] and before(ARGV[3], id) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
