-- The id of the log's last record, or nil; for whoever waits for a change.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return last and last[1] or false
