-- The entry's half of a store where the log and the entry are on two servers. KEYS are entry and lease; ARGV the value, how long
-- to keep it (ms), its ticket's id and era, and the holder.
return put(KEYS[1], KEYS[2], unpack(ARGV))
