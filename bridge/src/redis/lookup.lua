-- Reads only, unless the log is absent. KEYS[2…] are epochs; ARGV[4], ARGV[5] the newest position that the gateway
-- knows (id, unique; both empty if none). Answers nil if the log lacks it, else the log's last record, the
-- epochs, and the newest pattern's id.
local last = tail()
if ARGV[4] ~= '' and lost(ARGV[4], ARGV[5]) then return false end
local epochs = {}
if #KEYS > 1 then epochs = redis.call('MGET', unpack(KEYS, 2)) end
return { last[1], field(last, 'unique'), field(last, 'era'), epochs, newest_ban(last) }
