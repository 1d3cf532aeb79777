-- For whoever waits: who holds the lease, for how long (ms), and which entry there is.
return { redis.call('GET', KEYS[2]), left(KEYS[2]), redis.call('GETRANGE', KEYS[1], 0, 8) }
