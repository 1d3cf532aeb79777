-- The entry and how long it still has (ms), of one moment: two commands could see two entries.
return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
