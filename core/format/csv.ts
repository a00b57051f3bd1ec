/** Rows as CSV (RFC 4180, lines end with \n): a header line, null as nothing, the empty text as "". */
import type { Column } from '../record.ts'
import { plain, splitRow } from '../row.ts'

const MUST_QUOTE = /[",\r\n]/

const cell = (text: string): string =>
  text === '' || MUST_QUOTE.test(text) ? `"${text.replaceAll('"', '""')}"` : text

export const csvHeader = (columns: readonly Column[]): string =>
  `${columns.map(({ name }) => cell(name)).join(',')}\n`

/** Texts without their quotes; objects and lists as JSON. */
export function csvLine(row: string, columns: readonly Column[]): string {
  const { names, values } = splitRow(row)
  let line = ''
  for (let i = 0; i < columns.length; i++) {
    const { name } = columns[i]!
    const at = names[i] === name ? i : names.indexOf(name)
    const raw = at < 0 ? 'null' : values[at]!
    line += `${i === 0 ? '' : ','}${raw === 'null' ? '' : cell(plain(raw))}`
  }
  return `${line}\n`
}
