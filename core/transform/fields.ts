/**
 * Patterns that name columns: `email`, `customers.email`, `shop.customers.email`. `*` stands for any characters inside one
 * part; a part in double quotes is taken as it stands, dots included (`""` is one quote). Knows nothing of rows.
 */
import { z } from 'zod'
import type { Table } from '../record.ts'

export interface Field {
  /** As it was written. */
  readonly text: string
  matches(table: Table, column: string): boolean
}

/** What people take for a wildcard elsewhere; here it would silently match nothing. */
const FOREIGN = /[?[\]{}!\s]/

type Part = { readonly text: string; readonly quoted: boolean }

/** The parts of a pattern, or why it cannot be read. */
function partsOf(pattern: string): readonly Part[] | string {
  const parts: Part[] = []
  let at = 0
  for (;;) {
    const quoted = pattern[at] === '"'
    const part = (quoted ? /"((?:[^"]|"")*)"/y : /[^."]*/y) as RegExp
    part.lastIndex = at
    const found = part.exec(pattern)
    if (!found) return 'the quote is not closed'
    const text = quoted ? found[1]!.replaceAll('""', '"') : found[0]
    if (text === '') return 'a part of it is empty'
    const foreign = quoted ? null : text.match(FOREIGN)
    if (foreign)
      return `"${foreign[0]}" cannot stand there: only * is a wildcard; put a name that holds it in double quotes`
    parts.push({ text, quoted })
    at = part.lastIndex
    if (at === pattern.length) break
    if (pattern[at] !== '.') return 'parts are parted by dots'
    at++
  }
  return parts.length > 3 ? 'it has more than three parts' : parts
}

/** Why the pattern cannot be read; null: it can. */
export function badField(pattern: string): string | null {
  const parts = partsOf(pattern)
  return typeof parts === 'string' ? `must be column, table.column or schema.table.column: ${parts}` : null
}

/** Whether the pattern's column part can stand for several columns. */
export function isManyColumns(pattern: string): boolean {
  const parts = partsOf(pattern)
  const column = typeof parts === 'string' ? undefined : parts.at(-1)
  return column !== undefined && !column.quoted && column.text.includes('*')
}

const matcherOf = ({ text, quoted }: Part): ((name: string) => boolean) => {
  if (quoted || !text.includes('*')) return name => name === text
  const escaped = text.split('*').map(piece => piece.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
  const glob = new RegExp(`^${escaped.join('.*')}$`, 's')
  return name => glob.test(name)
}

/** The pattern must be good (`badField`). */
export function fieldOf(pattern: string): Field {
  const parts = partsOf(pattern)
  if (typeof parts === 'string') throw new TypeError(`${pattern}: ${parts}`)
  const [column, table, schema] = parts.map(matcherOf).reverse()
  return {
    text: pattern,
    matches: (of, name) => column!(name) && (table?.(of.name) ?? true) && (schema?.(of.schema) ?? true),
  }
}

/** The option `fields` of the verbs that take a list of patterns. */
export const fieldList = z
  .array(
    z.string().superRefine((text, context) => {
      const bad = badField(text)
      if (bad) context.addIssue({ code: 'custom', message: bad })
    }),
  )
  .min(1)
