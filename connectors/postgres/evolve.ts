/**
 * What a table of the target needs so that rows of a shape fit: statements that we run, and those that only a person may, for they would
 * change what a person made. Pure: the catalog's answer in, SQL out.
 */
import type { Table } from '../../core/record.ts'
import { type Mode, OURS } from '../sql/config.ts'
import { fitOf, type Ladders } from '../sql/evolve.ts'
import { quoteName, quoteTable, quoteText } from './connect.ts'
import { type FoundIndex, type FoundTable, MARK } from './target.ts'
import { KIND, typeNamed } from './values.ts'

export interface Needs {
  /** Run in one transaction. */
  readonly statements: readonly string[]
  /** The same in words. */
  readonly differences: readonly string[]
  readonly problems: readonly { readonly message: string; readonly hint: string }[]
}

/** Column names and types for CREATE TABLE, ours included. */
export function wantedColumns({ columns }: Table, mode: Mode): readonly (readonly [string, string])[] {
  const own = columns.map(({ name, type }) => [name, typeSql(type)] as const)
  const beside: (readonly [string, string])[] =
    mode === 'append'
      ? [
          [OURS.op, 'text'],
          [OURS.version, 'int8'],
          [OURS.origin, 'text'],
          [OURS.committed, 'timestamptz'],
        ]
      : [
          [OURS.version, 'int8'],
          [OURS.origin, 'text'],
        ]
  return [...own, ...beside]
}

/** A type that is not known here is text, as its values are. */
export const typeSql = (type: string): string => {
  const { name } = typeNamed(type)
  return name.startsWith('char') ? name.replace('char', '"char"') : name
}

const LADDERS: Ladders = [
  ['int2', 'int4', 'int8', 'numeric'],
  ['float4', 'float8'],
  ['char', 'bpchar', 'varchar', 'text'],
  ['name', 'varchar', 'text'],
  ['date', 'timestamp'],
].flatMap(ladder => [ladder, ladder.map(type => `${type}[]`)])
const NUMBERS = new Set(['int2', 'int4', 'int8', 'float4', 'float8'])

export interface Place {
  readonly schema: string
  readonly name: string
}

export function needsOf(place: Place, found: FoundTable | null, shape: Table, mode: Mode): Needs {
  const taken = shape.columns.filter(({ name }) => (Object.values(OURS) as string[]).includes(name))
  if (taken.length > 0)
    return refused(
      `${shape.schema}.${shape.name} has a column ${taken[0]!.name}, which is a name of ours`,
      'Rename it in the pipeline: transforms: [{ rename: { … } }].',
    )
  if (mode === 'upsert' && shape.key.length === 0)
    return refused(
      `${shape.schema}.${shape.name} has no key to keep rows by`,
      'Give it one, or use `mode: append`.',
    )
  const bad = nameProblem(place, shape, mode)
  if (bad) return refused(...bad)
  if (!found) return creation(place, shape, mode)
  if (found.kind !== 'r' && found.kind !== 'p')
    return refused(`${place.schema}.${place.name} is no table`, 'Name another `table`.')
  const { statements, differences, problems } = columnNeeds(place, found, shape, mode)
  return {
    statements,
    differences,
    problems: [...problems, ...(mode === 'upsert' ? constraintProblems(place, found, shape) : [])],
  }
}

/** What the server cuts names to, without a word: two that differ behind it would be one. */
const NAME_BYTES = 63
const MAX_COLUMNS = 1_600
/** Of every table (https://www.postgresql.org/docs/current/ddl-system-columns.html). */
const SYSTEM = ['tableoid', 'xmin', 'cmin', 'xmax', 'cmax', 'ctid']

function badName(name: string): string | null {
  if (name === '' || name.includes('\0')) return 'is empty or holds NUL'
  const bytes = Buffer.byteLength(name)
  return bytes > NAME_BYTES ? `has ${bytes} bytes, and PostgreSQL cuts names to ${NAME_BYTES}` : null
}

function nameProblem(
  { schema, name }: Place,
  shape: Table,
  mode: Mode,
): readonly [message: string, hint: string] | null {
  for (const [option, text] of Object.entries({ schema, table: name })) {
    const bad = badName(text)
    if (bad) return [`the ${option} "${text}" ${bad}`, `Choose another \`${option}\`.`]
  }
  const of = `${shape.schema}.${shape.name}`
  const rename = 'Rename it in the pipeline: transforms: [{ rename: { … } }].'
  for (const { name: column } of shape.columns) {
    const bad = badName(column) ?? (SYSTEM.includes(column) ? 'is one of the system' : null)
    if (bad) return [`the column "${column}" of ${of} ${bad}`, rename]
  }
  const count = wantedColumns(shape, mode).length
  return count > MAX_COLUMNS
    ? [
        `${of} has ${count} columns with ours, and a table of PostgreSQL has at most ${MAX_COLUMNS}`,
        'Leave some out: transforms: [{ drop: { fields: [ … ] } }].',
      ]
    : null
}

const refused = (message: string, hint: string): Needs => ({
  statements: [],
  differences: [],
  problems: [{ message, hint }],
})

function creation(place: Place, shape: Table, mode: Mode): Needs {
  const lines = wantedColumns(shape, mode).map(([name, type]) => `${quoteName(name)} ${type}`)
  if (mode === 'upsert') lines.push(`PRIMARY KEY (${shape.key.map(quoteName).join(', ')})`)
  return {
    statements: [
      `CREATE SCHEMA IF NOT EXISTS ${quoteName(place.schema)}`,
      `CREATE TABLE ${quoteTable(place)} (${lines.join(', ')})`,
      `COMMENT ON TABLE ${quoteTable(place)} IS ${quoteText(MARK)}`,
    ],
    differences: [],
    problems: [],
  }
}

function columnNeeds(place: Place, found: FoundTable, shape: Table, mode: Mode): Needs {
  const [statements, differences]: [string[], string[]] = [[], []]
  const problems: { message: string; hint: string }[] = []
  const table = quoteTable(place)
  const alter = (change: string, words: string) => {
    statements.push(`ALTER TABLE ${table} ${change}`)
    differences.push(words)
  }
  const types = new Map(shape.columns.map(({ name, type }) => [name, typeNamed(type).name]))
  for (const [name, sql] of wantedColumns(shape, mode)) {
    const column = found.columns.find(one => one.name === name)
    const wanted = types.get(name)
    if (column && wanted === undefined) continue // of ours
    if (!column) {
      const add = `ADD COLUMN IF NOT EXISTS ${quoteName(name)} ${sql}`
      if (wanted !== undefined || found.isOwn) alter(add, `${name} ${sql} is added`)
      else
        problems.push({
          message: `${place.schema}.${place.name} has no column ${name}`,
          hint: `ALTER TABLE ${table} ${add};`,
        })
      continue
    }
    const fit = fitOf(column.type, wanted!, LADDERS, 'text')
    const change = `ALTER COLUMN ${quoteName(name)} TYPE ${sql} USING ${quoteName(name)}::${sql}`
    const words = `${name} is ${column.type}, and the rows have ${wanted}`
    if (fit === 'fits') continue
    if (fit === 'widen' && found.isOwn) alter(change, `${words}: it is changed`)
    else if (found.isOwn || (fit === 'widen' && NUMBERS.has(column.type)))
      problems.push({
        message: `${place.schema}.${place.name}: ${words}`,
        hint: `ALTER TABLE ${table} ${change};`,
      })
    else if (fit === 'foreign') differences.push(`${words}: each value is cast`)
  }
  return { statements, differences, problems }
}

const sameColumns = (one: readonly string[], other: readonly string[]): boolean =>
  one.length === other.length && one.every(name => other.includes(name))

function constraintProblems(place: Place, found: FoundTable, shape: Table): Needs['problems'] {
  const table = quoteTable(place)
  const at = `${place.schema}.${place.name}`
  const keyList = shape.key.map(quoteName).join(', ')
  const problems: { message: string; hint: string }[] = []
  if (!found.uniques.some(one => sameColumns(one.columns, shape.key) && !one.isDeferrable))
    problems.push({
      message: `${at} has no primary key or unique index over ${shape.key.join(', ')}, by which rows are told apart`,
      hint: `ALTER TABLE ${table} ADD ${found.uniques.some(({ isPrimary }) => isPrimary) ? 'UNIQUE' : 'PRIMARY KEY'} (${keyList});`,
    })
  const sent = new Set(shape.columns.map(({ name }) => name))
  for (const index of found.uniques)
    if (isInTheWay(index, shape.key, sent))
      problems.push({
        message: `${at}: ${index.name} is checked row by row, and may be broken between two changes of one transaction`,
        hint: deferred(place, index),
      })
  for (const { name, table: of } of found.references)
    problems.push({
      message: `the foreign key ${name} of ${of} may be broken while tables are filled, and between partitions`,
      hint: `ALTER TABLE ${of} DROP CONSTRAINT ${quoteName(name)};`,
    })
  for (const column of found.columns)
    if (column.identity === 'a' && sent.has(column.name) && !shape.key.includes(column.name))
      problems.push({
        message: `${at}: ${column.name} is GENERATED ALWAYS, and cannot be updated`,
        hint: `ALTER TABLE ${table} ALTER COLUMN ${quoteName(column.name)} SET GENERATED BY DEFAULT;`,
      })
  return [...problems, ...keyProblems(place, found, shape)]
}

/** Rows of the source must be told apart by what stands in the key's columns. */
function keyProblems(place: Place, found: FoundTable, shape: Table): Needs['problems'] {
  const table = quoteTable(place)
  const problems: { message: string; hint: string }[] = []
  for (const { name, type, isGenerated } of found.columns) {
    if (!shape.key.includes(name)) continue
    const change = `ALTER TABLE ${table} ALTER COLUMN ${quoteName(name)}`
    if (isGenerated)
      problems.push({
        message: `${place.schema}.${place.name}: ${name} is of the key, and generated`,
        hint: `${change} DROP EXPRESSION;`,
      })
    const wanted = shape.columns.find(column => column.name === name)?.type ?? 'text'
    if (type === 'bpchar' && typeNamed(wanted).kind === KIND.text && wanted !== 'bpchar')
      problems.push({
        message: `${place.schema}.${place.name}: ${name} is of the key, and of the type character, to which "a" and "a " are one`,
        hint: `${change} TYPE text;`,
      })
  }
  return problems
}

/** One that holds the whole key can never be broken; one whose columns we do not write neither, as far as it is up to us. */
function isInTheWay(index: FoundIndex, key: readonly string[], sent: ReadonlySet<string>): boolean {
  if (index.isDeferred) return false
  if (index.columns.length === 0 || index.isExclusion) return true
  return index.columns.some(name => sent.has(name)) && !key.every(name => index.columns.includes(name))
}

function deferred(place: Place, { name, columns, isConstraint, isExclusion }: FoundIndex): string {
  const table = quoteTable(place)
  const index = quoteTable({ schema: place.schema, name })
  const drop = isConstraint
    ? `ALTER TABLE ${table} DROP CONSTRAINT ${quoteName(name)};`
    : `DROP INDEX ${index};`
  if (columns.length === 0 || isExclusion) return drop
  return `${drop} ALTER TABLE ${table} ADD CONSTRAINT ${quoteName(name)} UNIQUE (${columns.map(quoteName).join(', ')}) DEFERRABLE INITIALLY DEFERRED; With more than one partition of the log leave it out: two partitions may swap a value.`
}
