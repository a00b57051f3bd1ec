/**
 * Rows as CSV (RFC 4180, lines end with \n): a header line, null as nothing, the empty text as "". JSON stands as JSON, also a text in it:
 * without its own quotes "12" would be read as a number, and "a" as nothing at all.
 */
import type { Column } from '../record.ts'
import { plain, splitRow } from '../row.ts'

const MUST_QUOTE = /[",\r\n]/

const cell = (text: string): string =>
  text === '' || MUST_QUOTE.test(text) ? `"${text.replaceAll('"', '""')}"` : text

const isJson = (type: string): boolean => type === 'json' || type === 'jsonb'

export const csvHeader = (columns: readonly Column[]): string =>
  `${columns.map(({ name }) => cell(name)).join(',')}\n`

/** Texts without their quotes, but those of JSON; objects and lists as JSON. */
export function csvLine(row: string, columns: readonly Column[]): string {
  const { names, values } = splitRow(row)
  let line = ''
  for (let i = 0; i < columns.length; i++) {
    const { name, type } = columns[i]!
    const at = names[i] === name ? i : names.indexOf(name)
    const raw = at < 0 ? 'null' : values[at]!
    line += `${i === 0 ? '' : ','}${raw === 'null' ? '' : cell(isJson(type) ? raw : plain(raw))}`
  }
  return `${line}\n`
}
