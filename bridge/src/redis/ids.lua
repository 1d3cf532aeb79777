-- Ids are `ms-seq`, each a decimal of up to 64 bits: more than a Lua number holds, so they are compared as text.
local function smaller(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function before(a, b)
  local a_ms, a_seq = a:match('^(%d+)%-(%d+)$')
  local b_ms, b_seq = b:match('^(%d+)%-(%d+)$')
  if a_ms ~= b_ms then return smaller(a_ms, b_ms) end
  return smaller(a_seq, b_seq)
end
