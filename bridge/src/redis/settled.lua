-- The log's half of a store where the log and the entry are on two servers. KEYS[3…] are epochs; ARGV[4…6] the ticket (id,
-- unique, era); ARGV[7] how many records this may read; ARGV[8…] the tags. Answers whether the entry can ever be valid, and the
-- time.
local epochs = { unpack(KEYS, 3) }
local servable = settle(ARGV[4], ARGV[5], ARGV[6], { unpack(ARGV, 8) }, epochs, tonumber(ARGV[7]))
renew(epochs)
return { servable and 1 or 0, (clock_of(redis.call('GET', CLOCK))) }
