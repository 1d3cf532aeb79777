-- One call to a key of the applications. KEYS[1] is the key, and KEYS[2], in its slot, remembers what came of a call that
-- may be sent twice by a cluster's client; ARGV[1] is which call, ARGV[2…4] what to do, with what and for how long (ms).
if ARGV[1] ~= '' then
  local done = redis.call('GET', KEYS[2])
  if done and done:sub(1, #ARGV[1] + 1) == ARGV[1] .. ' ' then return cjson.decode(done:sub(#ARGV[1] + 2)) end
end

local call, value, ttl = ARGV[2], ARGV[3], ARGV[4]
local function run()
  if call == 'add' then return { redis.call('SET', KEYS[1], value, 'NX', 'PX', ttl) and 'done' or 'present', '' } end
  if call == 'delete' then return { redis.call('DEL', KEYS[1]) == 1 and 'done' or 'absent', '' } end
  if call == 'increment' then
    local sum = redis.pcall('INCRBY', KEYS[1], value)
    if type(sum) == 'table' then
      if sum.err:find('OOM') then return redis.error_reply(sum.err) end
      return { 'no-number', '' }
    end
    if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
    return { 'number', redis.call('GET', KEYS[1]) } -- as text: a Lua number holds less
  end
end

local came = run()
if ARGV[1] ~= '' and not came.err then redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. cjson.encode(came), 'PX', 10000) end
return came
