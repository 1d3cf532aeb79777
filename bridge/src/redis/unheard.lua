-- How long (ms) a gateway may yet serve what the record ARGV[1] purged; 0 once all have heard of it. KEYS[1] holds those that
-- poll, KEYS[2] the clock; ARGV[2] is who asks and isn't waited for, ARGV[3] the window (ms).
local now = clock_of(redis.call('GET', KEYS[2]))
redis.call('PEXPIRE', KEYS[1], 7 * 24 * 3600 * 1000) -- before what takes room: see `insist` in log.lua
redis.call('HSETNX', KEYS[1], SINCE, now)
local left = redis.call('HGET', KEYS[1], SINCE) + ARGV[3] - now
for name, heard in pairs(listeners_in(KEYS[1])) do
  if heard.ends > now and name ~= ARGV[2] and before(heard.applied, ARGV[1]) then left = math.max(left, heard.ends - now) end
end
return math.max(left, 0)
