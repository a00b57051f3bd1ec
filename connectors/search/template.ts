/** Names of indexes: what a template makes of a table, as an index may be called. */
import { partsOf } from '../../core/format/template.ts'

/** All indexes that a template can name, for a path: `*` for whatever is filled. */
export const indexPattern = (template: string): string =>
  partsOf(template)
    .map((part, i) => (i % 2 === 1 ? '*' : encodeURIComponent(cleanName(part))))
    .join('')
    .replace(/\*+/g, '*')

/**
 * A name as an index may have it (lower case, no `\ / * ? " < > | , #`, blank or colon, no leading `-`, `_` or `+`), in at most 255
 * bytes. What is altered is altered the same for every record, and `plan` refuses two tables that meet.
 */
export function indexName(text: string): string {
  const clean = cleanName(text).replace(/^[-_+]+/, '')
  const name = clean === '' || clean === '.' || clean === '..' ? 'table' : clean
  return Buffer.from(name)
    .subarray(0, 255)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')
}

const cleanName = (text: string): string => text.toLowerCase().replace(/[\\/*?"<>|,#\s:]/g, '_')
