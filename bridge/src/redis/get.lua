-- The entry and how long it still has (ms), of one moment: two commands could see two entries. Of the entry only its mark
-- if ARGV[3] is `mark`. Where there is none, the lease is granted to ARGV[1] for ARGV[2] ms, if it isn't empty.
local value
if ARGV[3] == 'mark' then
  value = redis.call('GETRANGE', KEYS[1], 0, 8)
  if value == '' then value = false end
else
  value = redis.call('GET', KEYS[1])
end
local lease = false
if not value and ARGV[1] ~= '' then lease = grant(ARGV[1], ARGV[2]) end
return { value, redis.call('PTTL', KEYS[1]), lease }
