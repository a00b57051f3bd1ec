/**
 * Values against a real server: the text that PostgreSQL writes goes through our code, the expected JSON is made by PostgreSQL
 * (to_json, to_jsonb, encode, to_char). The same rows come by COPY and by the stream, and must be the same text.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeTables, matchTables, planOf, relationNames } from '../../../connectors/postgres/catalog.ts'
import { connect } from '../../../connectors/postgres/connect.ts'
import { copyRows, selectOf } from '../../../connectors/postgres/copy.ts'
import { splitRow } from '../../../core/row.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { followed } from './following.ts'

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres()
})
afterAll(() => server[Symbol.asyncDispose]())

/** name of the type, values as SQL, the expected JSON text as SQL of `v`. */
const CASES: readonly (readonly [type: string, values: readonly string[], expected: string])[] = [
  ['bool', ['true', 'false'], 'to_json(v)::text'],
  ['int2', ['0', '-32768', '32767'], 'to_json(v)::text'],
  ['int4', ['0', '-2147483648', '2147483647'], 'to_json(v)::text'],
  ['int8', ['0', '-9223372036854775808', '9223372036854775807', '9007199254740993'], 'to_json(v)::text'],
  [
    'float4',
    ["'3.4028235e+38'", "'1e-45'", "'-0'", "'0.1'", "'NaN'", "'Infinity'", "'-Infinity'"],
    'to_json(v)::text',
  ],
  [
    'float8',
    [
      "'1.7976931348623157e308'",
      "'5e-324'",
      "'-0'",
      "'0.30000000000000004'",
      "'1e21'",
      "'NaN'",
      "'Infinity'",
      "'-Infinity'",
    ],
    'to_json(v)::text',
  ],
  [
    'numeric',
    ['0', '-1.50', '123456789012345678901234567890.123456789', "'NaN'", "'Infinity'", "'-Infinity'", '1e-30'],
    'to_json(v::text)::text',
  ],
  ['numeric(10,2)', ['1.5', '-0.01'], 'to_json(v::text)::text'],
  [
    'text',
    [
      "''",
      "'a'",
      "E'quote \" backslash \\\\ slash / nl \\n tab \\t cr \\r bs \\b ff \\f'",
      "E'\\u0001\\u001f\\u007f\\u0080'",
      "'ÄÖ€𝄞👩‍👩‍👧'",
      "'\\N'",
      "E'\\\\.'",
      "'NULL'",
      "repeat('x\"y\\z€', 5000)",
    ],
    'to_json(v)::text',
  ],
  ['varchar(20)', ["'ü\"'", "''"], 'to_json(v)::text'],
  ['bpchar(5)', ["'ab'", "''"], `'"' || rpad(v::text, 5) || '"'`],
  ['name', [`'Odd "Name"'`], 'to_json(v::text)::text'],
  ['"char"', ["'x'", `'"'`], 'to_json(v::text)::text'],
  ['uuid', ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"], 'to_json(v)::text'],
  [
    'json',
    [
      `'{"a": [1, 2.50, "x y"], "é": null}'`,
      `E'\\n {\\n\\t"a" : 1,\\r\\n "b":"c\\\\nd" }\\n'`,
      `'  "s"  '`,
      `' 12 '`,
      `'null'`,
      `'"\\ud800"'`,
    ],
    `btrim(translate(v::text, E'\\n\\t\\r', '   '))`,
  ],
  ['jsonb', [`'{"b": 1, "a": {"x": [true, null]}}'`, `'"\\""'`, `'1e400'`], 'v::text'],
  ['date', ["'2026-01-31'", "'0001-01-01'", "'9999-12-31'"], `to_json(v)::text`],
  ['time', ["'00:00:00'", "'23:59:59.999999'", "'24:00:00'", "'10:00:00.5'"], 'to_json(v)::text'],
  [
    'timestamp',
    [
      "'2026-01-31 10:00:00'",
      "'2026-01-31 10:00:00.000001'",
      "'0001-01-01 00:00:00'",
      "'9999-12-31 23:59:59.999999'",
    ],
    'to_json(v)::text',
  ],
  [
    'timestamptz',
    ["'2026-01-31 10:00:00+02'", "'2026-01-31 10:00:00.1-11:30'"],
    `replace(to_json(v)::text, '+00:00"', 'Z"')`,
  ],
  [
    'timetz',
    ["'10:00:00+02'", "'10:00:00.25-03:30'"],
    `'"' || to_char(date '2026-01-01' + v::time, 'HH24:MI:SS') || CASE WHEN v::text LIKE '%.25%' THEN '.25-03:30"' ELSE '+02:00"' END`,
  ],
  ['interval', ["'1 year 2 mons 3 days 04:05:06.789'", "'-1 day +02:00'", "'0'"], 'to_json(v::text)::text'],
  [
    'bytea',
    ["''", "'\\x00ff10'", "decode(repeat('00ff41', 3000), 'hex')"],
    `to_json(replace(encode(v, 'base64'), E'\\n', ''))::text`,
  ],
  [
    'int4[]',
    ["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'", "'{{{1}},{{2}}}'"],
    'to_json(v)::text',
  ],
  [
    'text[]',
    [`ARRAY['a,b', 'c"d', 'e\\f', '', 'NULL', NULL, '{}', ' x ', 'ü']`, `'{}'`, `'[2:3][1:1]={{a},{NULL}}'`],
    'to_json(v)::text',
  ],
  ['bool[]', ["'{t,f,NULL}'"], 'to_json(v)::text'],
  ['float8[]', ["'{1.5,NaN,-Infinity}'"], 'to_json(v)::text'],
  ['numeric[]', ["'{1.50,NULL}'"], `to_json(v::text[])::text`],
  [
    'timestamptz[]',
    ["ARRAY[timestamptz '2026-01-01 00:00:00.5+00', NULL]"],
    `replace(to_json(v)::text, '+00:00"', 'Z"')`,
  ],
  ['date[]', ["'{2026-01-01,infinity}'"], 'to_json(v)::text'],
  [
    'bytea[]',
    [`ARRAY['\\xff'::bytea, NULL, ''::bytea]`],
    `to_json(array(SELECT encode(x, 'base64') FROM unnest(v) x))::text`,
  ],
  [
    'jsonb[]',
    [`ARRAY['{"a": "b\\"c,}"}'::jsonb, '[1, 2]', 'null', NULL]`],
    `'[' || (SELECT string_agg(coalesce(x::text, 'null'), ',' ORDER BY o) FROM unnest(v) WITH ORDINALITY u(x, o)) || ']'`,
  ],
  ['uuid[]', ["ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]"], 'to_json(v)::text'],
  ['app.positive', ['1', '999'], 'to_json(v)::text'],
  ['app.positives', ["'{1,2}'"], 'to_json(v)::text'],
  ['app.positive[]', ["'{1,2}'"], 'to_json(v)::text'],
  ['app.money_[]', ["'{1.50}'"], 'to_json(v::numeric[]::text[])::text'],
  ['app.mood', ['\'so "so"\''], 'to_json(v)::text'],
  ['app.mood[]', [`'{"so \\"so\\"",happy}'`], 'to_json(v)::text'],
  ['box[]', ["ARRAY[box '(1,2),(3,4)', box '(5,6),(7,8)']"], `'["(3,4),(1,2)","(7,8),(5,6)"]'`],
  ['int4range', ["'[1,5)'"], 'to_json(v::text)::text'],
  ['inet', ["'10.0.0.1/8'"], 'to_json(v::text)::text'],
  ['oid', ['4294967295'], 'to_json(v::text)::text'],
  ['int2vector', ["'1 2'"], 'to_json(v::text)::text'],
  ['money', ["'1234.5'"], 'to_json(v::text)::text'],
  ['regclass', ["'app.cases_0'"], `'"app.cases_0"'`],
  ['app.pair', ["ROW(1, 'a\"b,c')::app.pair"], 'to_json(v::text)::text'],
]

/** What to_json has no words for, or other words: computed here from the documented rule by date arithmetic in SQL. */
const EXPANDED: readonly (readonly [type: string, value: string, expected: string])[] = [
  ['date', "'0044-03-15 BC'", '"-000043-03-15"'],
  ['date', "'0001-12-31 BC'", '"0000-12-31"'],
  ['date', "'12345-06-07'", '"+012345-06-07"'],
  ['date', "'5874897-12-31'", '"+5874897-12-31"'],
  ['date', "'infinity'", '"infinity"'],
  ['timestamp', "'-infinity'", '"-infinity"'],
  ['timestamp', "'4713-01-01 00:00:00 BC'", '"-004712-01-01T00:00:00"'],
  ['timestamptz', "'0044-03-15 10:11:12.5+00 BC'", '"-000043-03-15T10:11:12.5Z"'],
  ['timestamptz', "'12345-01-01 00:00:00+00'", '"+012345-01-01T00:00:00Z"'],
  ['timestamptz', "'infinity'", '"infinity"'],
]

const TYPES = `
CREATE SCHEMA app;
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE DOMAIN app.money_ AS numeric(10,2);
CREATE DOMAIN app.positives AS int[];
CREATE TYPE app.mood AS ENUM ('happy', 'so "so"');
CREATE TYPE app.pair AS (a int, b text);`

describe('values of a real server', () => {
  it('are the JSON that PostgreSQL itself makes, by COPY and by the stream, key and row', async () => {
    await server.sql(TYPES)
    await server.sql(`SET IntervalStyle = iso_8601`)
    for (const [i, [type]] of CASES.entries())
      await server.sql(`CREATE TABLE app.cases_${i} (id int PRIMARY KEY, v ${type}, w ${type})`)
    const names = CASES.map((_, i) => ({ schema: 'app', name: `cases_${i}` }))
    await using follower = await followed(server, names)
    for (const [i, [, values]] of CASES.entries())
      await server.sql(
        `INSERT INTO app.cases_${i} VALUES ${values.map((value, n) => `(${n}, ${value}, NULL)`).join(', ')}`,
      )
    const changes = await follower.until('end')

    const client = await connect(server)
    const found = matchTables(await relationNames(client), ['app.cases_*'])
    const tables = await describeTables(
      client,
      found.tables.map(({ oid }) => oid),
    )
    for (const [i, [type, values, expected]] of CASES.entries()) {
      const table = tables.find(({ name }) => name === `cases_${i}`)!
      const plan = planOf(table, {})
      const copied = await copyRows(client, `SELECT ${selectOf(plan)} FROM app.cases_${i} ORDER BY id`, plan)
      const should = await server.sql<{ expected: string }>(
        `SELECT ${expected} AS expected FROM app.cases_${i} ORDER BY id`,
      )
      expect(copied.rows, type).toEqual(
        values.map((_, n) => `{"id":${n},"v":${should[n]!.expected},"w":null}`),
      )
      expect(copied.keys).toEqual(values.map((_, n) => `{"id":${n}}`))
      for (const row of copied.rows) expect(splitRow(row).names).toEqual(['id', 'v', 'w'])
      for (const row of copied.rows) JSON.parse(row)
      const streamed = changes.filter(change => change.relation.name === `cases_${i}`)
      expect(
        streamed.map(change => change.after),
        type,
      ).toEqual(copied.rows)
      expect(streamed.map(change => change.key)).toEqual(copied.keys)
    }
    await client.end()
  })

  it('writes years before 1 and after 9999 as ISO 8601 does', async () => {
    const client = await connect(server)
    for (const [type, value, expected] of EXPANDED) {
      await server.sql(
        `DROP TABLE IF EXISTS app.years; CREATE TABLE app.years (v ${type} PRIMARY KEY); INSERT INTO app.years VALUES (${value})`,
      )
      const [table] = await describeTables(
        client,
        matchTables(await relationNames(client), ['app.years']).tables.map(({ oid }) => oid),
      )
      const plan = planOf(table!, {})
      const { rows } = await copyRows(client, 'SELECT v FROM app.years', plan)
      expect(rows).toEqual([`{"v":${expected}}`])
      // Back again: the text must be read as the same value.
      const back = plan.columns[0]!.type.toText(expected)
      const found = await client.query(`SELECT 1 FROM app.years WHERE v = $1::${type}`, [back])
      expect(found.rows, `${type} ${value} as ${back}`).toHaveLength(1)
    }
    await client.end()
  })

  it('finds every row again by the text that its JSON gives back', async () => {
    const client = await connect(server)
    const tables = await describeTables(
      client,
      matchTables(await relationNames(client), ['app.cases_*']).tables.map(({ oid }) => oid),
    )
    for (const [i, [type]] of CASES.entries()) {
      // No equality, or none over its text; and in an array, JSON's null and SQL's look alike.
      if (['json', 'float4', 'box[]', 'int2vector', 'jsonb[]'].includes(type)) continue
      const plan = planOf(tables.find(({ name }) => name === `cases_${i}`)!, {})
      const { rows } = await copyRows(
        client,
        `SELECT ${selectOf(plan)} FROM app.cases_${i} ORDER BY id`,
        plan,
      )
      for (const [n, row] of rows.entries()) {
        const text = plan.columns[1]!.type.toText(splitRow(row).values[1]!)
        const shape = type === 'int4[]' || type === 'text[]' ? 'to_json(v)::text = to_json($1::' : 'v = ($1::'
        const found = await client.query(
          `SELECT id FROM app.cases_${i} WHERE id = ${n} AND ${shape}${type})${shape.startsWith('to_json') ? '::text' : ''}`,
          [text],
        )
        expect(found.rows, `${type} ${text.slice(0, 60)}`).toEqual([{ id: n }])
      }
    }
    await client.end()
  })

  it('holds for random texts of every kind of character', async () => {
    await server.sql(`CREATE TABLE app.noise (id int PRIMARY KEY, t text, j jsonb, b bytea, a text[]);
      SELECT setseed(0.42);
      INSERT INTO app.noise SELECT i, t, to_jsonb(t), convert_to(t, 'UTF8'), ARRAY[t, NULL, t || '"']
      FROM (SELECT i, (SELECT string_agg(chr(CASE (random() * 5)::int WHEN 0 THEN 1 + (random() * 31)::int WHEN 1 THEN 34 WHEN 2 THEN 92 WHEN 3 THEN 32 + (random() * 95)::int WHEN 4 THEN 160 + (random() * 5000)::int ELSE 65536 + (random() * 5000)::int END), '')
        FROM generate_series(1, i % 40)) AS t FROM generate_series(1, 3000) i) x`)
    const client = await connect(server)
    const [table] = await describeTables(
      client,
      matchTables(await relationNames(client), ['app.noise']).tables.map(({ oid }) => oid),
    )
    const plan = planOf(table!, {})
    const { rows } = await copyRows(client, 'SELECT id, t, j, b, a FROM app.noise ORDER BY id', plan)
    const expected = await server.sql<{ t: string | null; b: string | null; a: (string | null)[] }>(
      `SELECT t, replace(encode(b, 'base64'), E'\\n', '') AS b, a FROM app.noise ORDER BY id`,
    )
    expect(rows).toHaveLength(3000)
    for (const [i, row] of rows.entries()) {
      const { t, b, a } = expected[i]!
      expect(JSON.parse(row)).toEqual({ id: i + 1, t, j: t, b, a })
    }
    await client.end()
  })
})
