-- Decides all policies of one request at once: either all that refuse admit it and are charged, or none is.
-- KEYS[i] is the counter of check i. ARGV: the name of the lease and its time in microseconds; then for each check the rule,
-- the time of a token, window or part in microseconds, what there is (microseconds of a bucket, else the limit), the cost,
-- and 1 if it only tells. The answer has for each check: 1 if violated, what remains, and microseconds until the request
-- fits (if violated) or all is back (if not); -1 where nobody can know. The same arithmetic is in `counter.rs`.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local HELD = 9

local function read(key, rule, step, limit)
  local counter = {}
  if rule == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    counter[1] = redis.call('ZCARD', key)
    return counter
  end
  local numbers = {}
  for number in string.gmatch(redis.call('GET', key) or '', '%d+') do
    numbers[#numbers + 1] = tonumber(number)
  end
  if rule == 'b' then
    -- Nobody waits for longer than an empty bucket takes, though the policy had a slower one before, or the clock went back.
    counter.full_at = numbers[1] or 0
    if counter.full_at > now + limit then
      counter.full_at = now + limit
      redis.call('SET', key, string.format('%.0f', counter.full_at), 'PX', math.ceil(limit / 1000) + 1000)
    end
    return counter
  end
  -- numbers: the part of the first count, then the counts, newest first.
  local here = (now - now % step) / step
  -- A part of the future is one of a shorter window that the policy had before, or of a clock that went back. What was spent
  -- then counts now.
  local kept = math.min(numbers[1] or here, here)
  counter.part = here
  local passed = counter.part - kept
  for i = 1, rule == 's' and HELD or 1 do
    counter[i] = i > passed and numbers[1 + i - passed] or 0
  end
  return counter
end

local function sum(counter)
  local spent = 0
  for i = 1, #counter do spent = spent + counter[i] end
  return spent
end

-- When what was spent so many parts ago does not count any more.
local function ends(counter, rule, step, age)
  return (counter.part + (rule == 's' and HELD or 1) - age) * step
end

local function wait(counter, rule, step, limit, cost)
  if cost == 0 then return nil end
  if rule == 'b' then
    local wanted = math.max(0, counter.full_at - now) + step * cost
    if wanted > limit then return wanted - limit end
    return nil
  end
  local over = sum(counter) + cost - limit
  if over <= 0 then return nil end
  if rule == 'c' then return 1000000 end
  local freed = 0
  for i = #counter, 1, -1 do
    freed = freed + counter[i]
    if freed >= over then return ends(counter, rule, step, i - 1) - now end
  end
  return step * HELD
end

local function spent(counter, rule, step, cost)
  local after = { part = counter.part, full_at = counter.full_at, unpack(counter) }
  if rule == 'b' then
    after.full_at = math.max(after.full_at, now) + step * cost
  else
    after[1] = after[1] + cost
  end
  return after
end

local function standing(counter, rule, step, limit)
  if rule == 'b' then
    local used = math.max(0, counter.full_at - now)
    return math.floor(math.max(0, limit - used) / step), used
  end
  local remaining = math.max(0, limit - sum(counter))
  if rule == 'c' then return remaining, -1 end
  for i = 1, #counter do
    if counter[i] > 0 then return remaining, ends(counter, rule, step, i - 1) - now end
  end
  return remaining, 0
end

local function keep(key, counter, rule, step)
  local numbers, idle_at
  if rule == 'b' then
    numbers, idle_at = { counter.full_at }, counter.full_at
  else
    numbers, idle_at = { counter.part, unpack(counter) }, ends(counter, rule, step, 0)
  end
  for i = 1, #numbers do numbers[i] = string.format('%.0f', numbers[i]) end
  redis.call('SET', key, table.concat(numbers, ' '), 'PX', math.max(0, math.ceil((idle_at - now) / 1000)) + 1000)
end

local checks, before, after, is_admitted = {}, {}, {}, true
for i, key in ipairs(KEYS) do
  local at = i * 5 - 3
  local check = {
    rule = ARGV[at + 1], step = tonumber(ARGV[at + 2]), limit = tonumber(ARGV[at + 3]),
    cost = tonumber(ARGV[at + 4]), is_shadow = ARGV[at + 5] == '1',
  }
  before[key] = before[key] or read(key, check.rule, check.step, check.limit)
  local counter = after[key] or before[key]
  check.wait = wait(counter, check.rule, check.step, check.limit, check.cost)
  if not check.wait and check.cost > 0 then
    after[key] = spent(counter, check.rule, check.step, check.cost)
  end
  is_admitted = is_admitted and (check.is_shadow or not check.wait)
  checks[i] = check
end

local answer = {}
for i, key in ipairs(KEYS) do
  local check = checks[i]
  local is_charged = is_admitted and not check.wait
  local counter = is_charged and after[key] or before[key]
  if is_charged and check.cost > 0 then
    if check.rule == 'c' then
      redis.call('ZADD', key, string.format('%.0f', now + ARGV[2]), ARGV[1])
      redis.call('PEXPIRE', key, math.ceil(ARGV[2] / 1000) + 1000)
    else
      keep(key, counter, check.rule, check.step)
    end
  end
  local remaining, reset = standing(counter, check.rule, check.step, check.limit)
  answer[#answer + 1] = check.wait and 1 or 0
  answer[#answer + 1] = remaining
  answer[#answer + 1] = check.rule ~= 'c' and check.wait or reset
end
return answer
