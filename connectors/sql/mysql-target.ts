/** A table of MySQL or MariaDB as its catalog has it, and what it needs so that rows of a shape fit. */
import type { Table } from '../../core/record.ts'
import { type Mode, OURS } from './config.ts'
import { fitOf, type Ladders } from './evolve.ts'
import { type Client, name as quoted, text } from './mysql-client.ts'

export interface FoundColumn {
  readonly name: string
  /** Without length: `varchar`, `bigint`. */
  readonly type: string
  readonly isGenerated: boolean
  /** As the columns that we make: it takes null, and has no value of its own. */
  readonly isPlain: boolean
  readonly collation: string | null
}

export interface FoundTable {
  readonly isTable: boolean
  readonly isOwn: boolean
  readonly engine: string
  readonly columns: readonly FoundColumn[]
  /** Columns in order; with a length or an expression in them: none. */
  readonly uniques: readonly { readonly name: string; readonly columns: readonly string[] }[]
  readonly references: readonly { readonly name: string; readonly table: string }[]
}

const MARK = 'millrace: kept by a pipeline'

export async function findTable(client: Client, table: string): Promise<FoundTable | null> {
  if (badName(table) !== null) return null // there is none, and the server may fail at the question
  const here = `TABLE_SCHEMA = ${text(client.server.database)} AND TABLE_NAME = ${text(table)}`
  const [found] = await client.rows<{ type: string; engine: string | null; comment: string }>(
    `SELECT TABLE_TYPE AS type, ENGINE AS engine, TABLE_COMMENT AS comment FROM information_schema.TABLES WHERE ${here}`,
  )
  if (!found) return null
  const columns = await client.rows<
    Pick<FoundColumn, 'name' | 'type' | 'collation'> & { expression: string | null; mayBeNull: number }
  >(
    `SELECT COLUMN_NAME AS name, lower(DATA_TYPE) AS type, GENERATION_EXPRESSION AS expression, COLLATION_NAME AS collation,
       IS_NULLABLE = 'YES' AND coalesce(COLUMN_DEFAULT, 'NULL') = 'NULL' AS mayBeNull
     FROM information_schema.COLUMNS WHERE ${here} ORDER BY ORDINAL_POSITION`,
  )
  const parts = await client.rows<{ name: string; column: string | null; part: number | null }>(
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS \`column\`, SUB_PART AS part FROM information_schema.STATISTICS
     WHERE ${here} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
  )
  const references = await client.rows<{ name: string; table: string }>(
    `SELECT CONSTRAINT_NAME AS name, TABLE_NAME AS \`table\` FROM information_schema.REFERENTIAL_CONSTRAINTS
     WHERE CONSTRAINT_SCHEMA = ${text(client.server.database)} AND ${text(table)} IN (TABLE_NAME, REFERENCED_TABLE_NAME) ORDER BY 1`,
  )
  const names = [...new Set(parts.map(one => one.name))]
  return {
    isTable: found.type === 'BASE TABLE',
    isOwn: found.comment.startsWith('millrace:'),
    engine: found.engine ?? '',
    columns: columns.map(({ expression, mayBeNull, ...column }) => {
      const isGenerated = (expression ?? '') !== ''
      return { ...column, isGenerated, isPlain: !isGenerated && Number(mayBeNull) === 1 }
    }),
    uniques: names.map(index => {
      const own = parts.filter(one => one.name === index)
      const isPlain = own.every(one => one.column !== null && one.part === null)
      return { name: index, columns: isPlain ? own.map(one => one.column!) : [] }
    }),
    references,
  }
}

/** Names of columns are one whatever their case: they are spelled as the rows have them. */
export function spelledAs(found: FoundTable, { columns }: Table): FoundTable {
  const names = new Map(columns.map(({ name }) => [name.toLowerCase(), name]))
  const spelled = (name: string) => names.get(name.toLowerCase()) ?? name
  return {
    ...found,
    columns: found.columns.map(column => ({ ...column, name: spelled(column.name) })),
    uniques: found.uniques.map(index => ({ ...index, columns: index.columns.map(spelled) })),
  }
}

/** https://dev.mysql.com/doc/refman/8.4/en/identifiers.html, https://mariadb.com/kb/en/identifier-names/ */
const NAME_CHARACTERS = 64
/** Of InnoDB. */
const MAX_COLUMNS = 1_017

function badName(name: string): string | null {
  if (name === '' || name.includes('\0')) return 'is empty or holds NUL'
  if (name.endsWith(' ')) return 'ends with a space'
  if (/[\u{10000}-\u{10ffff}]/u.test(name)) return 'holds a character of four bytes'
  return name.length > NAME_CHARACTERS
    ? `has ${name.length} characters, and names have at most ${NAME_CHARACTERS}`
    : null
}

function nameProblem(table: string, shape: Table, making: Making): Problem | null {
  const bad = badName(table)
  if (bad) return { message: `the table "${table}" ${bad}`, hint: 'Choose another `table`.' }
  const of = `${shape.schema}.${shape.name}`
  const rename = 'Rename it in the pipeline: transforms: [{ rename: { … } }].'
  const seen = new Map<string, string>()
  for (const { name } of shape.columns) {
    const why = badName(name)
    if (why) return { message: `the column "${name}" of ${of} ${why}`, hint: rename }
    const twin = seen.get(name.toLowerCase())
    if (twin !== undefined)
      return {
        message: `the columns ${twin} and ${name} of ${of} would be one, whatever their case`,
        hint: rename,
      }
    seen.set(name.toLowerCase(), name)
  }
  const count = wantedColumns(shape, making).length
  return count > MAX_COLUMNS
    ? {
        message: `${of} has ${count} columns with ours, and a table of InnoDB has at most ${MAX_COLUMNS}`,
        hint: 'Leave some out: transforms: [{ drop: { fields: [ … ] } }].',
      }
    : null
}

/** `numeric` has no bounds, and NaN: its text is the one thing that holds all of it. Make the table before, for a DECIMAL. */
const TYPES: Readonly<Record<string, string>> = {
  bool: 'tinyint',
  int2: 'smallint',
  int4: 'int',
  int8: 'bigint',
  float4: 'double',
  float8: 'double',
  date: 'date',
  time: 'time(6)',
  timestamp: 'datetime(6)',
  timestamptz: 'datetime(6)',
  json: 'json',
  jsonb: 'json',
  bytea: 'longblob',
}

export interface Making {
  readonly mode: Mode
  readonly keyLength: number
  readonly collation: string
}

/** A bytewise one that sees trailing spaces: whether two keys are one is for the source to say. */
export const collationOf = ({ isMariadb }: Client): string =>
  isMariadb ? 'utf8mb4_nopad_bin' : 'utf8mb4_0900_bin'

function typeSql(type: string, isKey: boolean, keyLength: number): string {
  const known = TYPES[type] ?? 'longtext'
  if (!isKey) return known
  if (known === 'longblob') return `varbinary(${keyLength})`
  return known === 'longtext' || known === 'json' ? `varchar(${keyLength})` : known
}

export function wantedColumns(
  { columns, key }: Table,
  { mode, keyLength }: Making,
): readonly (readonly [string, string])[] {
  const own = columns.map(
    ({ name, type }) => [name, typeSql(type, mode === 'upsert' && key.includes(name), keyLength)] as const,
  )
  const origin = [OURS.origin, 'varchar(512)'] as const
  return mode === 'append'
    ? [...own, [OURS.op, 'varchar(8)'], [OURS.version, 'bigint'], origin, [OURS.committed, 'datetime(3)']]
    : [...own, [OURS.version, 'bigint'], origin]
}

const bare = (sql: string): string => sql.replace(/\(.*/, '')
const LADDERS: Ladders = [
  ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'],
  ['float', 'double'],
  ['date', 'datetime'],
  ['char', 'varchar', 'text', 'mediumtext', 'longtext'],
  ['binary', 'varbinary', 'blob', 'mediumblob', 'longblob'],
]
const NUMBERS = new Set(['tinyint', 'smallint', 'mediumint', 'int', 'float'])

export interface Needs {
  readonly statements: readonly string[]
  readonly differences: readonly string[]
  readonly problems: readonly { readonly message: string; readonly hint: string }[]
}
type Problem = Needs['problems'][number]

export function needsOf(table: string, there: FoundTable | null, shape: Table, making: Making): Needs {
  const found = there && spelledAs(there, shape)
  const refused = (message: string, hint: string): Needs => ({
    statements: [],
    differences: [],
    problems: [{ message, hint }],
  })
  const taken = shape.columns.find(({ name }) => (Object.values(OURS) as string[]).includes(name))
  if (taken)
    return refused(
      `${shape.schema}.${shape.name} has a column ${taken.name}, which is a name of ours`,
      'Rename it in the pipeline: transforms: [{ rename: { … } }].',
    )
  if (making.mode === 'upsert' && shape.key.length === 0)
    return refused(
      `${shape.schema}.${shape.name} has no key to keep rows by`,
      'Give it one, or use `mode: append`.',
    )
  const bad = nameProblem(table, shape, making)
  if (bad) return refused(bad.message, bad.hint)
  if (!found) {
    const lines = wantedColumns(shape, making).map(
      ([name, sql]) =>
        `${quoted(name)} ${sql}${making.mode === 'upsert' && shape.key.includes(name) ? ' NOT NULL' : ''}`,
    )
    if (making.mode === 'upsert') lines.push(`PRIMARY KEY (${shape.key.map(quoted).join(', ')})`)
    const made = `CREATE TABLE ${quoted(table)} (${lines.join(', ')}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE ${making.collation} COMMENT = ${text(MARK)}`
    return { statements: [made], differences: [], problems: [] }
  }
  if (!found.isTable) return refused(`${table} is no table`, 'Name another `table`.')
  const needs = columnNeeds(table, found, shape, making)
  return {
    ...needs,
    problems: [
      ...needs.problems,
      ...(making.mode === 'upsert' ? keyProblems(table, found, shape, making) : []),
    ],
  }
}

function columnNeeds(table: string, found: FoundTable, shape: Table, making: Making): Needs {
  const [statements, differences]: [string[], string[]] = [[], []]
  const problems: Problem[] = []
  const alter = (change: string) => `ALTER TABLE ${quoted(table)} ${change}`
  if (found.engine.toLowerCase() !== 'innodb')
    problems.push({
      message: `${table} is a table of ${found.engine}, which knows no transactions`,
      hint: `${alter('ENGINE = InnoDB')};`,
    })
  for (const [name, sql] of wantedColumns(shape, making)) {
    const column = found.columns.find(one => one.name === name)
    const isOurs = !shape.columns.some(one => one.name === name)
    if (column && isOurs) continue
    if (!column) {
      const add = alter(`ADD COLUMN ${quoted(name)} ${sql}`)
      if (!isOurs || found.isOwn) {
        statements.push(add)
        differences.push(`${name} ${sql} is added`)
      } else problems.push({ message: `${table} has no column ${name}`, hint: `${add};` })
      continue
    }
    // MariaDB's json is a longtext with a check.
    const type = column.type === 'longtext' && bare(sql) === 'json' ? 'json' : column.type
    const fit = fitOf(type, bare(sql), LADDERS, 'longtext')
    if (fit === 'fits') continue
    const change = alter(`MODIFY COLUMN ${quoted(name)} ${sql}`)
    const words = `${name} is ${column.type}, and the rows want ${sql}`
    if (fit === 'widen' && found.isOwn) {
      statements.push(change)
      differences.push(`${words}: it is changed`)
    } else if (found.isOwn || (fit === 'widen' && NUMBERS.has(column.type)))
      problems.push({ message: `${table}: ${words}`, hint: `${change};` })
    else if (fit === 'foreign') differences.push(`${words}: each value is converted`)
  }
  return { statements, differences, problems }
}

/** Neither database can defer a check, and ON DUPLICATE KEY UPDATE would take any unique index for the key. */
function keyProblems(
  table: string,
  found: FoundTable,
  shape: Table,
  { collation, keyLength }: Making,
): Problem[] {
  const at = quoted(table)
  const problems: Problem[] = []
  const isKey = (columns: readonly string[]) =>
    columns.length === shape.key.length && columns.every(name => shape.key.includes(name))
  if (!found.uniques.some(one => isKey(one.columns)))
    problems.push({
      message: `${table} has no primary key or unique index over ${shape.key.join(', ')}, by which rows are told apart`,
      hint: `ALTER TABLE ${at} ADD ${found.uniques.some(one => one.name === 'PRIMARY') ? 'UNIQUE INDEX' : 'PRIMARY KEY'} (${shape.key.map(quoted).join(', ')});`,
    })
  for (const { name, columns } of found.uniques)
    if (
      !(columns.length > 0 && shape.key.every(one => columns.includes(one))) &&
      !(columns.length > 0 && columns.every(one => !shape.columns.some(column => column.name === one)))
    )
      problems.push({
        message: `${table}: the unique index ${name} may be broken between two changes, and would be taken for the key`,
        hint:
          name === 'PRIMARY'
            ? `ALTER TABLE ${at} DROP PRIMARY KEY;`
            : `ALTER TABLE ${at} DROP INDEX ${quoted(name)}${columns.length > 0 ? `, ADD INDEX ${quoted(name)} (${columns.map(quoted).join(', ')})` : ''};`,
      })
  for (const { name, table: of } of found.references)
    problems.push({
      message: `the foreign key ${name} of ${of} may be broken while tables are filled, and between partitions`,
      hint: `ALTER TABLE ${quoted(of)} DROP FOREIGN KEY ${quoted(name)};`,
    })
  for (const column of found.columns) {
    const { name, type, isGenerated, collation: of } = column
    if (!shape.key.includes(name)) continue
    if (isGenerated)
      problems.push({
        message: `${table}: ${name} is of the key, and generated`,
        hint: `Make it a column of its own, or leave ${name} out of the key.`,
      })
    else if (of !== null && isAlike(column, shape))
      problems.push({
        message: `${table}: ${name} is ${type} compared by ${of}, to which two keys of the source may be one`,
        hint: `ALTER TABLE ${at} MODIFY COLUMN ${quoted(name)} varchar(${keyLength}) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL;`,
      })
  }
  return problems
}

/** Types whose values may end with spaces, which count. */
const TEXTS = ['text', 'varchar', 'name', 'char']
/** Collations by bytes to which trailing spaces count; and a char gives none back. */
const EXACT = /nopad_bin$|_0900_bin$/

function isAlike({ name, type, collation }: FoundColumn, { columns }: Table): boolean {
  if (!collation!.endsWith('_bin')) return true
  const wanted = columns.find(column => column.name === name)?.type ?? 'text'
  return TEXTS.includes(wanted) && (type === 'char' || !EXACT.test(collation!))
}
