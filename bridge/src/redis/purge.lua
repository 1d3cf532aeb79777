-- One unit of replication: the record and the epochs. KEYS[2…] are the epochs of the tags ARGV[5…]; ARGV[4] is the
-- record's unique number. Answers its id and era.
local era = field(tail(), 'era')
local record = append(ARGV[4], era, { unpack(ARGV, 5) })
for i = 2, #KEYS do redis.call('SET', KEYS[i], record[1], 'PX', WEEK) end
return { record[1], era }
