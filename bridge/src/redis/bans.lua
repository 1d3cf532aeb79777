-- KEYS[1] is the list of patterns; ARGV[1] an entry's ticket, ARGV[2] the newest pattern's id. Answers the patterns since
-- the ticket, or nil if some have been lost or trimmed: then nobody knows.
local since = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+')
if #since == 0 or before(since[#since][1], ARGV[2]) then return false end
local prev = since[1][2][2]
if prev ~= '' and before(ARGV[1], prev) then return false end
local patterns = {}
for _, record in ipairs(since) do
  for i = 3, #record[2] do patterns[#patterns + 1] = record[2][i] end
end
return patterns
