-- A whole store, where one server has all of it. KEYS[3] and KEYS[4] are entry and lease, KEYS[5…] epochs; ARGV[4…6] the ticket
-- (id, unique, era); ARGV[7] how many records this may read to prove something; ARGV[8] the holder (or nothing); ARGV[9] since when
-- the value says that it lies there; ARGV[10] the least that the clock can show (ms); ARGV[11] how long to keep it (ms); ARGV[12]
-- the value; ARGV[13…] the tags. Answers what came of it, and the time: `later` if the value isn't put since it says a time
-- that is still to come.
local entry, lease, epochs = KEYS[3], KEYS[4], { unpack(KEYS, 5) }
local at, era, holder = ARGV[4], ARGV[6], ARGV[8]
local now = math.max(clock_of(redis.call('GET', CLOCK)), tonumber(ARGV[10]))
if tonumber(ARGV[9]) > now then return { 'later', now } end
local came = 'void'
if settle(at, ARGV[5], era, { unpack(ARGV, 13) }, epochs, tonumber(ARGV[7])) then
  local put = put(entry, lease, ARGV[12], ARGV[11], at, era, holder)
  if put ~= 0 and put ~= 1 then return put end
  came = put == 1 and 'stored' or 'newer'
elseif redis.call('GET', lease) == holder then
  redis.call('DEL', lease)
end
renew(epochs)
return { came, now }
