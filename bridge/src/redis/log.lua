-- What every script in the log's slot begins with. KEYS[1] is the group's log, a stream of purges, KEYS[2] its clock; ARGV[1]
-- and ARGV[2] are a unique number and an era that nobody has used yet, both hexadecimal; ARGV[3] is how many records the log
-- keeps.
local LOG, CLOCK, FRESH_UNIQUE, FRESH_ERA, RECORDS_MAX = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local WEEK = 7 * 24 * 3600 * 1000

local function field(record, name)
  for i = 1, #record[2], 2 do
    if record[2][i] == name then return record[2][i + 1] end
  end
end

local function tags_of(record)
  local tags = {}
  for i = 1, #record[2], 2 do
    if record[2][i] == 'tag' then tags[#tags + 1] = record[2][i + 1] end
  end
  return tags
end

-- Patterns stand in a list of `key-pattern` or `tag-pattern` and its text, in turns.
local function patterns_of(record)
  local patterns = {}
  for i = 1, #record[2], 2 do
    local name = record[2][i]
    if name == 'key-pattern' or name == 'tag-pattern' then
      patterns[#patterns + 1] = name
      patterns[#patterns + 1] = record[2][i + 1]
    end
  end
  return patterns
end

-- The id of the newest record with patterns, as of this one; empty if there was none in its era.
local function newest_ban(record)
  if #patterns_of(record) > 0 then return record[1] end
  return field(record, 'ban') or ''
end

-- A server that is full refuses what takes room until the script has written something that takes none. The log and what
-- is read from it go on all the same: they are bounded.
local FULL = false
local function insist(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if answer.err:find('OOM', 1, true) then
    FULL = true
    redis.call('PEXPIRE', LOG, WEEK)
  end
  return redis.call(...)
end

-- Which server this is: a replica is another one than the master that it copies, and so is a server that was started again.
local function here()
  return (redis.call('INFO', 'server'):match('run_id:(%x+)') or ''):sub(1, 16)
end

local function newest() return redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1] end

-- As the stream gives ids itself, but by the group's clock.
local function next_id()
  local last, first = newest(), ('%.0f-0'):format((clock_of(redis.call('GET', CLOCK))))
  if not last or before(last[1], first) then return first end
  local ms, seq = last[1]:match('^(%d+)%-(%d+)$')
  return #seq > 15 and '*' or ('%s-%.0f'):format(ms, seq + 1) -- a Lua number holds no more
end

local function append(unique, era, on, tags, ban, patterns)
  local fields = { 'unique', unique, 'era', era, 'on', on }
  if ban and ban ~= '' then
    fields[7] = 'ban'
    fields[8] = ban
  end
  for _, part in ipairs(patterns or {}) do fields[#fields + 1] = part end
  for _, tag in ipairs(tags) do
    fields[#fields + 1] = 'tag'
    fields[#fields + 1] = tag
  end
  local id = insist('XADD', LOG, 'MAXLEN', '=', RECORDS_MAX, next_id(), unpack(fields))
  redis.call('PEXPIRE', LOG, WEEK)
  return { id, fields }
end

-- A record without tags that begins an era, on this server: whatever was stored under another one is void.
local function flush()
  return append(FRESH_UNIQUE, FRESH_ERA, here(), {})
end

-- The last record. A log that is absent (new, evicted, expired) begins anew, and what it held nobody knows: a new era.
local function tail()
  return newest() or flush()
end

local function find(id, unique)
  local record = redis.call('XRANGE', LOG, id, id)[1]
  if record and field(record, 'unique') == unique then return record end
end

-- Whether the log must have held this position and doesn't: history was lost. What is older than its first record may
-- just have been trimmed.
local function lost(id, unique)
  if find(id, unique) then return false end
  local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  return not before(id, first[1])
end
