-- A hash of the gateways that poll: what each has applied, and until when (ms) it trusts what it holds without hearing more.
-- Beside them stands since when every poll has been noted: others may have polled before.
local SINCE = 'since'

local function listeners_in(key)
  local listeners, all = {}, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local applied, ends = all[i + 1]:match('^(%d+%-%d+) (%d+)$')
    if applied then listeners[all[i]] = { applied = applied, ends = tonumber(ends) } end
  end
  return listeners
end
