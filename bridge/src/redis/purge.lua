-- One unit of replication: the record, the epochs and the patterns. KEYS[3] is the list of patterns and KEYS[4…] are epochs;
-- ARGV[4] is the record's unique number, ARGV[5] how many patterns and texts follow, and the rest are tags: those of the
-- epochs first, and `!soft` if it is. Answers the record's id and era.
local BANS_MAX = 256
local last = tail()
local era, ban = field(last, 'era'), newest_ban(last)
local count = tonumber(ARGV[5])
local patterns = { unpack(ARGV, 6, 5 + count) }
local record = append(ARGV[4], era, field(last, 'on') or '', { unpack(ARGV, 6 + count) }, ban, patterns)
local soft = false
for i = 6 + count, #ARGV do soft = soft or ARGV[i] == '!soft' end
for i = 4, #KEYS do
  if soft then -- beside the last hard purge; where that isn't known, a missing epoch is a miss
    local epoch = redis.call('GET', KEYS[i])
    if epoch then redis.call('SET', KEYS[i], epoch:match('^[^,]+') .. ',' .. record[1], 'PX', WEEK) end
  elseif FULL then
    redis.call('SET', KEYS[i], record[1], 'PX', WEEK, 'XX') -- a missing epoch is a miss, and takes no room
  else
    redis.call('SET', KEYS[i], record[1], 'PX', WEEK)
  end
end
if count > 0 then
  local function add() return redis.pcall('XADD', KEYS[3], 'MAXLEN', '=', BANS_MAX, record[1], 'prev', ban, unpack(patterns)) end
  local added = add()
  if added.err then -- left from a log whose clock was ahead: without it, what is older counts as purged
    redis.call('DEL', KEYS[3])
    add()
  end
  redis.call('PEXPIRE', KEYS[3], WEEK)
end
return { record[1], era }
