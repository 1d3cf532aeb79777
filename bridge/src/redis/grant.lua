-- Grants the lease to ARGV[1] for ARGV[2] ms, if the entry is still the one that was judged, which begins with ARGV[3]
-- (empty if there was none); else answers nil.
if redis.call('GETRANGE', KEYS[1], 0, 8) ~= ARGV[3] then return false end
return grant(ARGV[1], ARGV[2])
