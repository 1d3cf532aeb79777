-- The group's clock (ms), by which its entries, its log and its gateways grow older: the server's own, which goes on where
-- that steps back. The last poll has left what is kept of it: the time then, and how far it was ahead of the server's.
local function clock_of(kept)
  local time = redis.call('TIME')
  local own = time[1] * 1000 + math.floor(time[2] / 1000)
  local last, ahead = (kept or ''):match('^(%d+) (%d+)$')
  if not last then return own, own end
  return math.max(own + ahead, tonumber(last)), own
end
