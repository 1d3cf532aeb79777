-- Ends the lease of ARGV[1], and lets everybody pass for ARGV[2] ms if that isn't empty. Answers 0 if it is another's.
local held = redis.call('GET', KEYS[2])
if held and held ~= 'pass' and held ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[2], 'pass', 'PX', ARGV[2])
elseif held == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
