-- ARGV[4…5] are the gateway's cursor and ARGV[6…7] the newest position that it knows (id, unique; empty if none); ARGV[8] and
-- ARGV[9] how many records and how many bytes of tags an answer may hold. KEYS[3] holds those that poll, ARGV[10] the name of
-- this one (empty if it has none), ARGV[11] its window (ms), ARGV[12] how many there may be. ARGV[13] is the least that the
-- clock can show (ms): the bridge was told a time, and has counted on. Answers continuity, the next cursor (id, unique), whether
-- that is all, the records (id, unique, tags, patterns), and the time (ms).
local cursor, cursor_unique, known, known_unique = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local count_max, bytes_max = tonumber(ARGV[8]), tonumber(ARGV[9])

-- A master that was deposed, or that refuses writes, must not feed: its silence would be taken for "nothing purged".
local now, own = clock_of(redis.call('GET', CLOCK))
now = math.max(now, tonumber(ARGV[13]))
insist('SET', CLOCK, ('%.0f %.0f'):format(now, now - own), 'PX', WEEK)

-- The one that polls has applied the log up to here.
local function polls(applied)
  if ARGV[10] == '' then return end
  redis.call('HSETNX', KEYS[3], SINCE, now)
  redis.call('PEXPIRE', KEYS[3], WEEK)
  if redis.call('HEXISTS', KEYS[3], ARGV[10]) == 0 then
    for name, heard in pairs(listeners_in(KEYS[3])) do
      if heard.ends <= now then redis.call('HDEL', KEYS[3], name) end
    end
    if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[12]) then
      redis.call('HSET', KEYS[3], SINCE, now)
      return
    end
  end
  redis.call('HSET', KEYS[3], ARGV[10], applied .. ' ' .. ('%.0f'):format(now + ARGV[11]))
end

local last = tail()
redis.call('PEXPIRE', LOG, WEEK)
local function start_at(record, continuity)
  polls('0-0') -- it is about to drop everything
  return { continuity, record[1], field(record, 'unique'), 1, {}, now }
end

-- The era began on another server: of what that one acknowledged, this one may lack the end.
if field(last, 'on') ~= here() then return start_at(flush(), cursor == '' and 'first' or 'lost') end
if cursor == '' then return start_at(last, 'first') end
if lost(cursor, cursor_unique) or known ~= '' and lost(known, known_unique) then
  return start_at(flush(), 'lost') -- in the log, so that every gateway and every stored entry hears of it
end
local applied = find(cursor, cursor_unique)
if not applied then return start_at(last, 'trimmed') end
if field(applied, 'era') ~= field(last, 'era') then return start_at(last, 'new-era') end

polls(cursor)
local records, bytes, complete = {}, 0, 1
for i, record in ipairs(redis.call('XRANGE', LOG, '(' .. cursor, '+', 'COUNT', count_max + 1)) do
  local tags = tags_of(record)
  for _, tag in ipairs(tags) do bytes = bytes + #tag end
  if i > 1 and (i > count_max or bytes > bytes_max) then
    complete = 0
    break
  end
  records[i] = { record[1], field(record, 'unique'), tags, patterns_of(record) }
  applied = record
end
return { 'joined', applied[1], field(applied, 'unique'), complete, records, now }
