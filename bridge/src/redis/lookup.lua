-- Reads only, unless the log is absent. KEYS[3…] are epochs; ARGV[4], ARGV[5] the newest position that the gateway
-- knows (id, unique; both empty if none). Answers nil if the log lacks it, else words in one text, which is the cheapest to
-- write and to read: id, unique and era of the log's last record, the newest pattern's id, the time, the epochs; `-` for none.
local last = tail()
if ARGV[4] ~= '' and lost(ARGV[4], ARGV[5]) then return false end
local ban = newest_ban(last)
local words = { last[1], field(last, 'unique'), field(last, 'era'), ban == '' and '-' or ban }
for i, held in ipairs(redis.call('MGET', unpack(KEYS, 2))) do words[i + 4] = held or '-' end
words[5] = clock_of(words[5])
return table.concat(words, ' ')
