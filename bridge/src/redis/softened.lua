-- How long ago (ms) the first soft purge after the ticket ARGV[4…5] (id, unique) was made that names one of the tags ARGV[7…];
-- nil if the log can't tell, of which ARGV[6] records are read at most.
local tags = {}
for i = 7, #ARGV do tags[ARGV[i]] = true end
if not find(ARGV[4], ARGV[5]) then return false end
for _, record in ipairs(redis.call('XRANGE', LOG, '(' .. ARGV[4], '+', 'COUNT', ARGV[6])) do
  local soft, named = false, false
  for _, tag in ipairs(tags_of(record)) do
    soft = soft or tag == '!soft'
    named = named or tags[tag]
  end
  if soft and named then
    return math.max(clock_of(redis.call('GET', CLOCK)) - record[1]:match('^%d+'), 0)
  end
end
return false
