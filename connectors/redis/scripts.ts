/**
 * What happens inside Redis, each atomic. Beside the rows stand, by names of their own (names.ts):
 *
 *   position   hash        epoch, position of the task            compared before anything is done (P2)
 *   versions   sorted set  row → version, of one table and origin, compared before a row is written (V4); deleted rows stay for a while
 *   forget     sorted set  row → ms at which its version may go: deleted rows, and those that expire
 *   places     hash        row → key and member, of sets: where it has to be taken away from
 *   members    hash        key and member → rows that have it, where several may
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
local function leave(places, members, id)
  local place = redis.call('HGET', places, id)
  if not place then return end
  local colon = string.find(place, ':', 1, true)
  local length = tonumber(string.sub(place, 1, colon - 1))
  local key, member = string.sub(place, colon + 1, colon + length), string.sub(place, colon + length + 1)
  redis.call('HDEL', places, id)
  if redis.call('HEXISTS', members, place) == 1 then
    if redis.call('HINCRBY', members, place, -1) > 0 then return end
    redis.call('HDEL', members, place)
  end
  local kind = redis.call('TYPE', key).ok
  if kind == 'set' then redis.call('SREM', key, member)
  elseif kind == 'zset' then redis.call('ZREM', key, member) end
end
`

/**
 * KEYS  position; versions, forget, places, members of each table; then the key of each command
 * ARGV  epoch ('': no position is kept), previous position, next ('': it does not move), now in ms, how long deletes are remembered in ms,
 *       tables, "1": look first whether keys hold what they should; the commands, as MessagePack:
 *       [[kind, table, version, row ('': its key), expires at in ms ('': never), …]…]
 *         S value   H field, value…   D   M shared, member   Z shared, member, score   R   X longest ('': no bound), field, value…   I
 *       One text instead of a dozen for each row: what the client does for each takes longer than what Redis does with it.
 * Versions are asked for and set once for each table, not for each row, of which the last command counts. They are set behind the rows: were
 * a command refused in between, the rows would come again, and must not be taken for old. A ZADD that changes nothing stands before
 * all: it is what a full Redis refuses, and a script that has deleted something is refused nothing any more.
 * Answers ["OK", refused as older], ["FENCED", epoch found], or ["TYPE", commands whose key holds something else…]: nothing was written.
 */
export const WRITE = `${FENCE}${PLACES}
local now, keep, tables = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local commands, data = cmsgpack.unpack(ARGV[8]), 1 + 4 * tables
if ARGV[7] == '1' then
  local wanted = { M = 'set', Z = 'zset', X = 'stream' }
  local wrong, seen = {}, {}
  for at, command in ipairs(commands) do
    local want, key = wanted[command[1]], KEYS[data + at]
    if want then
      if seen[key] == nil then
        local kind = redis.call('TYPE', key).ok
        seen[key] = kind == 'none' or kind == want
      end
      if not seen[key] then wrong[#wrong + 1] = at - 1 end
    end
  end
  if #wrong > 0 then return {'TYPE', unpack(wrong)} end
end

local call = redis.call
local rows = {}
for at, command in ipairs(commands) do
  if command[1] ~= 'X' and command[1] ~= 'I' then
    if command[4] == '' then command[4] = KEYS[data + at] end
    local own = rows[command[2]] or {}
    rows[command[2]], own[#own + 1] = own, command[4]
  end
end

local versions, forget, places, members, some = {}, {}, {}, {}, {}
for table = 0, tables - 1 do
  local first = 2 + 4 * table
  versions[table], forget[table], places[table], members[table] = KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3]
  if rows[table] then call('ZADD', versions[table], 'XX', 0, '') end
  local old = call('ZRANGEBYSCORE', forget[table], '-inf', now, 'LIMIT', 0, 1000)
  if #old > 0 then
    call('ZREM', versions[table], unpack(old))
    call('ZREM', forget[table], unpack(old))
  end
  some[table] = call('EXISTS', forget[table]) == 1
end
local function later(table, row, ms)
  call('ZADD', forget[table], ms, row)
  some[table] = true
end
local function lasts(table, row, expires)
  if expires ~= '' then later(table, row, math.max(tonumber(expires), now) + keep)
  elseif some[table] then call('ZREM', forget[table], row) end
end

local refused, isOver, emptied, known, last = 0, {}, {}, {}, {}
for table, own in pairs(rows) do
  local scores = call('ZMSCORE', versions[table], unpack(own))
  known[table], last[table] = {}, {}
  for i, row in ipairs(own) do known[table][row] = tonumber(scores[i]) end
end
for at, command in ipairs(commands) do
  local held, latest = known[command[2]], last[command[2]]
  if held then
    local row, version = command[4], tonumber(command[3])
    if held[row] and held[row] >= version then
      isOver[at] = true
      refused = refused + 1
    else
      if latest[row] then isOver[latest[row]] = true end
      held[row], latest[row] = version, at
      if command[1] == 'H' then emptied[#emptied + 1] = row end
    end
  end
end
if #emptied > 0 then call('DEL', unpack(emptied)) end

for at, command in ipairs(commands) do
  local kind, table, row, expires, key = command[1], command[2], command[4], command[5], KEYS[data + at]
  if isOver[at] then
  elseif kind == 'X' then
    local bound = command[6]
    if bound == '' then call('XADD', key, '*', unpack(command, 7))
    else call('XADD', key, 'MAXLEN', '~', bound, '*', unpack(command, 7)) end
  elseif kind == 'I' then call('UNLINK', key)
  elseif kind == 'S' then
    if expires == '' then call('SET', key, command[6])
    else call('SET', key, command[6], 'PXAT', expires) end
    lasts(table, row, expires)
  elseif kind == 'H' then
    call('HSET', key, unpack(command, 6))
    if expires ~= '' then call('PEXPIREAT', key, expires) end
    lasts(table, row, expires)
  elseif kind == 'D' then
    call('UNLINK', key)
    later(table, row, now + keep)
  else
    leave(places[table], members[table], row)
    if kind == 'R' then later(table, row, now + keep)
    else
      local member = command[7]
      local place = #key .. ':' .. key .. member
      if kind == 'M' then call('SADD', key, member)
      else call('ZADD', key, command[8], member) end
      call('HSET', places[table], row, place)
      if command[6] == '1' then call('HINCRBY', members[table], place, 1) end
      lasts(table, row, '')
    end
  end
end
for table, latest in pairs(last) do
  local set = {}
  for row, at in pairs(latest) do set[#set + 1], set[#set + 2] = commands[at][3], row end
  if #set > 0 then call('ZADD', versions[table], 'GT', unpack(set)) end
end
if ARGV[1] ~= '' and ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'position', ARGV[3]) end
return {'OK', refused}
`

/**
 * A step of a sweep (S1, S2): rows below a version go, and are remembered as deleted by it.
 * KEYS  position; versions, forget, places, members of the table
 * ARGV  epoch ('': no position is kept), position, now in ms, how long deletes are remembered in ms, below, rows at most, "1": a row is a key
 * Answers ["OK", rows] or ["FENCED", epoch found]. As many rows as asked for: there may be more.
 */
export const SWEEP = `${FENCE}${PLACES}
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5], 'LIMIT', 0, ARGV[6])
for _, row in ipairs(rows) do
  if ARGV[7] == '1' then redis.call('UNLINK', row) else leave(KEYS[4], KEYS[5], row) end
  redis.call('ZADD', KEYS[2], 'GT', ARGV[5], row)
  redis.call('ZADD', KEYS[3], tonumber(ARGV[3]) + tonumber(ARGV[4]), row)
end
return {'OK', #rows}
`
