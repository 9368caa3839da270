-- One worker's claim on one budget in one period, and what it may hold and spend from now on.
--
-- The hash has s:<ledger>, what each ledger says was spent, and two fields for every worker: l:<worker> its share (what it may
-- still hold and spend), b:<worker> a count of its claims, by which others see that it lives. Workers that share a ledger say
-- the same of it, some of them a little later, and what it does not have yet they keep in their shares. Claims are absolute, so that one
-- that is told twice is one, and one that was lost is repaired by the next. Hence
--
--     sum of s + sum of l <= limit
--
-- unless a worker spent above its holds. Amounts are decimal strings of nano-dollars, reckoned in dollars and nano-dollars:
-- a Lua number is exact up to 2^53, which in nano-dollars would be nine million dollars.
--
-- KEYS   the budget's hash; the run that all hashes are of; whether shares are being told anew
-- ARGV   worker, limit, spent, held, share, more, "1" for a worker's first claim, seconds to keep, rebuild milliseconds,
--        ledger, then workers that are dead: all that they spent is in `spent`, so their shares are nobody's
-- returns  share, spent by others, shares of others, "1" while rebuilding, then worker and claims of each other

local NANOS = 1000000000

local function read(text)
  local cut = #text - 9
  if cut <= 0 then return {0, tonumber(text)} end
  return {tonumber(string.sub(text, 1, cut)), tonumber(string.sub(text, cut + 1))}
end

local function plus(a, b)
  local nanos = a[2] + b[2]
  if nanos >= NANOS then return {a[1] + b[1] + 1, nanos - NANOS} end
  return {a[1] + b[1], nanos}
end

local function minus(a, b)
  local nanos = a[2] - b[2]
  if nanos < 0 then return {a[1] - b[1] - 1, nanos + NANOS} end
  return {a[1] - b[1], nanos}
end

local function less(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local function write(a)
  if a[1] <= 0 then return string.format('%.0f', a[2]) end
  return string.format('%.0f%09.0f', a[1], a[2])
end

local ZERO = {0, 0}
local dead = {}
for i = 11, #ARGV do dead[ARGV[i]] = true end
local worker, is_first, ledger = ARGV[1], ARGV[7] == '1', ARGV[10]
local limit, claimed_spent, held, claimed_share, more = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

-- Another server, or one that has lost its data: whoever holds a share says so again before anybody is given more. The server
-- is asked here, for a client may be connected to another one without having noticed.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('GET', KEYS[2]) ~= run then
  redis.call('SET', KEYS[2], run)
  redis.call('SET', KEYS[3], '1', 'PX', ARGV[9])
end
local is_rebuilding = redis.call('EXISTS', KEYS[3]) == 1

local fields = redis.call('HGETALL', KEYS[1])
local spent, share = read(claimed_spent), read(claimed_share)
local spent_by_others, shares_of_others, others, is_known = ZERO, ZERO, {}, false
for i = 1, #fields, 2 do
  local kind, whose, value = string.sub(fields[i], 1, 1), string.sub(fields[i], 3), fields[i + 1]
  if kind == 's' then
    if whose ~= ledger then
      spent_by_others = plus(spent_by_others, read(value))
    elseif less(spent, read(value)) then
      spent = read(value)  -- what was spent never falls
    end
  elseif dead[whose] then
    redis.call('HDEL', KEYS[1], fields[i])
  elseif whose == worker then
    if kind == 'l' then is_known = true end
  elseif kind == 'l' then
    shares_of_others = plus(shares_of_others, read(value))
  elseif kind == 'b' then
    others[#others + 1] = whose
    others[#others + 1] = value
  end
end

-- Taken for dead, its share was given to others: nothing is left of it but what is held already.
if not is_known and not is_first and not is_rebuilding then share = read(held) end

if not is_rebuilding then
  local pool = minus(read(limit), plus(plus(spent, spent_by_others), plus(shares_of_others, share)))
  local given = read(more)
  if less(pool, given) then given = pool end
  if less(ZERO, given) then share = plus(share, given) end
end

redis.call('HSET', KEYS[1], 's:' .. ledger, write(spent), 'l:' .. worker, write(share))
redis.call('HINCRBY', KEYS[1], 'b:' .. worker, 1)
if ARGV[8] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[8]) end

return {write(share), write(spent_by_others), write(shares_of_others), is_rebuilding and '1' or '0', unpack(others)}
