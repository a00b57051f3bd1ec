/** What can be wrong with the tables of a source as the catalog shows them, for check.ts. Asks nothing. */
import type { ErrorKind } from '../../core/errors.ts'
import type { CatalogTable, Name } from './catalog.ts'
import { type PostgresConfig, splitPattern, takesColumn } from './config.ts'
import { quoteTable } from './connect.ts'

export interface Problem {
  readonly kind: Extract<ErrorKind, 'config' | 'auth' | 'unavailable' | 'offset_lost'>
  readonly message: string
  readonly hint: string
}

export const problem = (kind: Problem['kind'], message: string, hint: string): Problem => ({
  kind,
  message,
  hint,
})

const KINDS: Readonly<Record<string, string>> = {
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
}

/** A pattern that matches nothing that can be followed. */
export function missingProblem(
  pattern: string,
  instead: readonly Name[],
  all: readonly Name[],
  database: string,
): Problem {
  const [other] = instead
  if (other)
    return problem(
      'config',
      `${other.schema}.${other.name} is ${KINDS[other.kind] ?? 'no table'}: PostgreSQL logs no changes of it`,
      'Name the tables behind it in `tables`.',
    )
  const tables = all.filter(({ kind }) => kind === 'r' || kind === 'p')
  const near = nearest(pattern, tables)
  return problem(
    'config',
    `no table of database "${database}" matches "${pattern}"`,
    near
      ? `Did you mean ${near.schema}.${near.name}? Names are case-sensitive here.`
      : `Its tables: ${
          tables
            .slice(0, 10)
            .map(({ schema, name }) => `${schema}.${name}`)
            .join(', ') || 'none'
        }`,
  )
}

/** By edits of the whole name; null: none is near enough to be meant. */
function nearest(pattern: string, tables: readonly Name[]): Name | null {
  const wanted = (splitPattern(pattern) ?? [pattern]).join('.').toLowerCase()
  let best: Name | null = null
  let least = Math.max(2, Math.floor(wanted.length / 3)) + 1
  for (const table of tables) {
    const full = `${table.schema}.${table.name}`.toLowerCase()
    // The right table in another schema is the commonest slip.
    const away = full.endsWith(wanted.slice(wanted.indexOf('.'))) ? 1 : edits(wanted, full)
    if (away < least) {
      least = away
      best = table
    }
  }
  return best
}

/** Levenshtein's distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

export function shapeProblems(table: CatalogTable): Problem[] {
  const name = quoteTable(table)
  const said = `${table.schema}.${table.name}`
  const found: Problem[] = []
  if (table.persistence !== 'p')
    found.push(
      problem(
        'config',
        `table ${said} is ${table.persistence === 'u' ? 'unlogged' : 'temporary'}: its changes are never logged`,
        table.persistence === 'u' ? `ALTER TABLE ${name} SET LOGGED;` : 'Take it out of `tables`.',
      ),
    )
  if (table.key.length === 0)
    found.push(
      problem(
        'config',
        `table ${said} has no key`,
        `ALTER TABLE ${name} ADD PRIMARY KEY (…); or, with a unique index on columns that are NOT NULL: ALTER TABLE ${name} REPLICA IDENTITY USING INDEX …;`,
      ),
    )
  else if (table.identity === 'n')
    // Published like this, every UPDATE and DELETE of the application would fail.
    found.push(
      problem(
        'config',
        `table ${said} has REPLICA IDENTITY NOTHING`,
        `ALTER TABLE ${name} REPLICA IDENTITY DEFAULT;`,
      ),
    )
  for (const leaf of table.leaves)
    if (leaf.kind === 'f')
      found.push(
        problem(
          'config',
          `partition ${leaf.schema}.${leaf.name} of ${said} is a foreign table: its changes are not logged here`,
          `ALTER TABLE ${name} DETACH PARTITION ${quoteTable(leaf)};`,
        ),
      )
  return found
}

/** A list of columns that takes nothing of a table it was written for is a slip. */
export function columnProblems({ columns }: PostgresConfig, tables: readonly CatalogTable[]): Problem[] {
  return tables.flatMap(({ schema, name, key, columns: has }) => {
    const others = has.filter(column => !key.includes(column.name))
    if (others.length === 0 || others.some(column => takesColumn(columns, schema, name, column.name)))
      return []
    return [
      problem(
        'config',
        `\`columns\` takes no column of ${schema}.${name} but its key`,
        `Its columns: ${has.map(column => column.name).join(', ')}`,
      ),
    ]
  })
}
