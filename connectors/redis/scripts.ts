/**
 * What happens inside Redis, each atomic. Beside the rows stand, by names of their own (names.ts):
 *
 *   position   hash        epoch, position of the task            compared before anything is done (P2)
 *   versions   sorted set  row → version, of one table and origin: ZADD GT CH is the compare-and-set (V4); deleted rows stay for a while
 *   forget     sorted set  row → ms at which its version may go: deleted rows, and those that expire
 *   places     hash        row → key and member, of sets: where it has to be taken away from
 *
 * A row is called by its key where a key is a row, else by its id. Versions and times are below 2^53, which a score holds exactly.
 */

/** KEYS position; ARGV epoch. Answers ["OK", position or ""] or ["FENCED", epoch found]. */
export const CLAIM = `
local held = redis.call('HMGET', KEYS[1], 'epoch', 'position')
if held[1] and tonumber(held[1]) >= tonumber(ARGV[1]) then return {'FENCED', held[1]} end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return {'OK', held[2] or ''}
`

const FENCE = `
if ARGV[1] ~= '' then
  local held = redis.call('HMGET', KEYS[1], 'epoch', 'position')
  if held[1] ~= ARGV[1] or (held[2] or '') ~= ARGV[2] then return {'FENCED', held[1] or '0'} end
end
`

const PLACES = `
local function leave(places, id)
  local place = redis.call('HGET', places, id)
  if not place then return end
  local colon = string.find(place, ':', 1, true)
  local length = tonumber(string.sub(place, 1, colon - 1))
  local key, member = string.sub(place, colon + 1, colon + length), string.sub(place, colon + length + 1)
  local kind = redis.call('TYPE', key).ok
  if kind == 'set' then redis.call('SREM', key, member)
  elseif kind == 'zset' then redis.call('ZREM', key, member) end
  redis.call('HDEL', places, id)
end
`

/**
 * KEYS  position; versions, forget, places of each table; then the key of each command
 * ARGV  epoch ('': no position is kept), previous position, next ('': it does not move), now in ms, how long deletes are remembered in ms,
 *       tables; then each command: kind, table, version, row, expires at in ms ('': never), parts, its parts
 *         S value   H field, value…   D   M member   Z member, score   R   X longest ('': no bound), field, value…   I
 * Answers ["OK", refused as older], ["FENCED", epoch found], or ["TYPE", commands whose key holds something else…]: nothing was written.
 */
export const WRITE = `${FENCE}${PLACES}
local now, keep, tables = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local function step(at)
  return at + 6 + tonumber(ARGV[at + 5])
end
local wanted = { M = 'set', Z = 'zset', X = 'stream' }
local wrong, seen, command, at = {}, {}, 0, 7
while at <= #ARGV do
  local want = wanted[ARGV[at]]
  if want then
    local key = KEYS[2 + 3 * tables + command]
    if seen[key] == nil then
      local kind = redis.call('TYPE', key).ok
      seen[key] = kind == 'none' or kind == want
    end
    if not seen[key] then wrong[#wrong + 1] = command end
  end
  at, command = step(at), command + 1
end
if #wrong > 0 then return {'TYPE', unpack(wrong)} end

local versions, forget, places, some = {}, {}, {}, {}
for table = 0, tables - 1 do
  versions[table], forget[table], places[table] = KEYS[2 + 3 * table], KEYS[3 + 3 * table], KEYS[4 + 3 * table]
  local old = redis.call('ZRANGEBYSCORE', forget[table], '-inf', now, 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('ZREM', versions[table], unpack(old))
    redis.call('ZREM', forget[table], unpack(old))
  end
  some[table] = redis.call('EXISTS', forget[table]) == 1
end
local function later(table, row, ms)
  redis.call('ZADD', forget[table], ms, row)
  some[table] = true
end
local function lasts(table, row, expires)
  if expires ~= '' then later(table, row, tonumber(expires) + keep)
  elseif some[table] then redis.call('ZREM', forget[table], row) end
end

local refused = 0
command, at = 0, 7
while at <= #ARGV do
  local kind, table, row, expires = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 3], ARGV[at + 4]
  local first, last = at + 6, step(at) - 1
  local key = KEYS[2 + 3 * tables + command]
  if kind == 'X' then
    local bound = ARGV[first]
    if bound == '' then redis.call('XADD', key, '*', unpack(ARGV, first + 1, last))
    else redis.call('XADD', key, 'MAXLEN', '~', bound, '*', unpack(ARGV, first + 1, last)) end
  elseif kind == 'I' then redis.call('UNLINK', key)
  elseif redis.call('ZADD', versions[table], 'GT', 'CH', ARGV[at + 2], row) == 0 then refused = refused + 1
  elseif kind == 'S' then
    if expires == '' then redis.call('SET', key, ARGV[first])
    else redis.call('SET', key, ARGV[first], 'PXAT', expires) end
    lasts(table, row, expires)
  elseif kind == 'H' then
    redis.call('DEL', key)
    redis.call('HSET', key, unpack(ARGV, first, last))
    if expires ~= '' then redis.call('PEXPIREAT', key, expires) end
    lasts(table, row, expires)
  elseif kind == 'D' then
    redis.call('UNLINK', key)
    later(table, row, now + keep)
  else
    leave(places[table], row)
    if kind == 'R' then later(table, row, now + keep)
    else
      local member = ARGV[first]
      if kind == 'M' then redis.call('SADD', key, member)
      else redis.call('ZADD', key, ARGV[first + 1], member) end
      redis.call('HSET', places[table], row, #key .. ':' .. key .. member)
      lasts(table, row, '')
    end
  end
  at, command = step(at), command + 1
end
if ARGV[1] ~= '' and ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'position', ARGV[3]) end
return {'OK', refused}
`

/**
 * A step of a sweep (S1, S2): rows below a version go, and are remembered as deleted by it.
 * KEYS  position; versions, forget, places of the table
 * ARGV  epoch ('': no position is kept), position, now in ms, how long deletes are remembered in ms, below, rows at most, "1": a row is a key
 * Answers ["OK", rows] or ["FENCED", epoch found]. As many rows as asked for: there may be more.
 */
export const SWEEP = `${FENCE}${PLACES}
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5], 'LIMIT', 0, ARGV[6])
for _, row in ipairs(rows) do
  if ARGV[7] == '1' then redis.call('UNLINK', row) else leave(KEYS[4], row) end
  redis.call('ZADD', KEYS[2], 'GT', ARGV[5], row)
  redis.call('ZADD', KEYS[3], tonumber(ARGV[3]) + tonumber(ARGV[4]), row)
end
return {'OK', #rows}
`
