/** A table of the target as the catalog has it: its columns, and what of its constraints stands in the way. Changes nothing. */
import type pg from 'pg'
import { query } from './connect.ts'

export interface FoundColumn {
  readonly name: string
  /** As `Column.type` names types; of another schema than pg_catalog with that. */
  readonly type: string
  /** For a cast: without a length, which a cast would cut values to. */
  readonly sql: string
  /** Between elements of an array. */
  readonly delimiter: string
  readonly isGenerated: boolean
  /** a: GENERATED ALWAYS AS IDENTITY. */
  readonly identity: string
  /** As the columns that we make: it takes null, and has no value of its own. */
  readonly isPlain: boolean
}

export interface FoundIndex {
  readonly name: string
  /** Empty when it is over expressions or over a part of the rows. */
  readonly columns: readonly string[]
  readonly isPrimary: boolean
  readonly isConstraint: boolean
  /** Checked when the transaction ends. */
  readonly isDeferred: boolean
  readonly isDeferrable: boolean
  readonly isExclusion: boolean
}

export interface FoundTable {
  /** r, p; v, m, f cannot be written to as we do. */
  readonly kind: string
  /** Made by us: it follows the rows' types. */
  readonly isOwn: boolean
  readonly columns: readonly FoundColumn[]
  readonly uniques: readonly FoundIndex[]
  /** Foreign keys from it and to it. */
  readonly references: readonly { readonly name: string; readonly table: string }[]
  readonly mayWrite: boolean
  readonly mayAlter: boolean
}

export const MARK = 'millrace: kept by a pipeline'

const TABLE = `
SELECT c.oid, c.relkind AS kind, coalesce(obj_description(c.oid, 'pg_class') LIKE 'millrace:%', false) AS "isOwn",
  has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
    AND has_table_privilege(c.oid, 'DELETE') AS "mayWrite", pg_has_role(c.relowner, 'USAGE') AS "mayAlter"
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`

const COLUMNS = `
SELECT a.attname AS name, format_type(a.atttypid, -1) AS sql, coalesce(e.typdelim, ',') AS delimiter, a.attgenerated <> '' AS "isGenerated",
  a.attidentity AS identity, NOT a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS "isPlain",
  CASE WHEN n.nspname <> 'pg_catalog' THEN n.nspname || '.' || t.typname WHEN t.typcategory = 'A' THEN e.typname || '[]' ELSE t.typname END AS type
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

const UNIQUES = `
SELECT i.relname AS name, x.indisprimary AS "isPrimary", con.oid IS NOT NULL AS "isConstraint", coalesce(con.condeferrable, false) AS "isDeferrable",
  coalesce(con.condeferred, false) AS "isDeferred", x.indisexclusion AS "isExclusion",
  CASE WHEN x.indexprs IS NULL AND x.indpred IS NULL THEN array(
    SELECT a.attname::text FROM unnest(x.indkey::int2[]) WITH ORDINALITY k(number, place) JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
    WHERE k.place <= x.indnkeyatts ORDER BY k.place) ELSE '{}' END AS columns
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = x.indexrelid AND con.contype IN ('p', 'u', 'x')
WHERE x.indrelid = $1 AND (x.indisunique OR x.indisexclusion) AND x.indisvalid ORDER BY 1`

const REFERENCES = `
SELECT conname AS name, conrelid::regclass::text AS table FROM pg_constraint
WHERE contype = 'f' AND (conrelid = $1 OR confrelid = $1) AND conparentid = 0 ORDER BY 1`

export async function findTable(
  client: pg.ClientBase,
  schema: string,
  name: string,
): Promise<FoundTable | null> {
  const [table] = await query<{
    oid: number
    kind: string
    isOwn: boolean
    mayWrite: boolean
    mayAlter: boolean
  }>(client, TABLE, [schema, name])
  if (!table) return null
  const { oid, ...rest } = table
  return {
    ...rest,
    columns: await query<FoundColumn & pg.QueryResultRow>(client, COLUMNS, [oid]),
    uniques: await query<FoundIndex & pg.QueryResultRow>(client, UNIQUES, [oid]),
    references: await query<{ name: string; table: string }>(client, REFERENCES, [oid]),
  }
}
