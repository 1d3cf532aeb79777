-- Removes KEYS[1] and answers what it held and for how long (ms). A second call with the same ARGV[1], as a cluster's client
-- may make, finds both under KEYS[2].
if ARGV[1] ~= '' then
  local done = redis.call('HMGET', KEYS[2], 'call', 'value', 'left')
  if done[1] == ARGV[1] then return { done[2], done[3] } end
end
local value = redis.call('GET', KEYS[1])
if not value then return { false, 0 } end
local left = redis.call('PTTL', KEYS[1])
if ARGV[1] ~= '' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'call', ARGV[1], 'value', value, 'left', left)
  redis.call('PEXPIRE', KEYS[2], 10000)
end
redis.call('DEL', KEYS[1])
return { value, left }
