/** Rows of every type that tables have, made up from a seed, and what a reader of a typed file must find of each value. */
import { type FileOptions, fileOf, lineOf } from '../../../core/format/file.ts'
import type { Column } from '../../../core/record.ts'
import type { Random } from '../../sim/random.ts'

export const COLUMNS: readonly Column[] = [
  'bool',
  'int2',
  'int4',
  'int8',
  'float4',
  'float8',
  'numeric',
  'text',
  'uuid',
  'bytea',
  'jsonb',
  'date',
  'timestamp',
  'timestamptz',
  'int4[]',
  'interval',
].map(type => ({ name: `c_${type.replace('[]', 's')}`, type }))

const TEXTS = ['', ' ', 'a', '"\\\n\t', '😀ß', 'null', "'; DROP", 'x'.repeat(300), '\u0000', ',']
const pad = (n: number, width = 2): string => String(n).padStart(width, '0')

/** JSON text of a value; null in one of eight. */
function raw(type: string, random: Random): string {
  if (random.chance(0.125)) return 'null'
  const date = () => `${pad(random.int(1, 9999), 4)}-${pad(random.int(1, 12))}-${pad(random.int(1, 28))}`
  const fraction = () => random.pick(['', '', '.5', '.000001', '.123456'])
  const time = () =>
    `${date()}T${pad(random.int(0, 23))}:${pad(random.int(0, 59))}:${pad(random.int(0, 59))}${fraction()}`
  const hex = (length: number) => Array.from({ length }, () => random.int(0, 15).toString(16)).join('')
  switch (type) {
    case 'bool':
      return String(random.chance(0.5))
    case 'int2':
      return String(random.pick([-32768, 32767, 0, random.int(-100, 100)]))
    case 'int4':
      return String(random.pick([-2147483648, 2147483647, 0, random.int(-100_000, 100_000)]))
    case 'int8':
      return random.pick(['-9223372036854775808', '9223372036854775807', '9007199254740993', '0', '-1'])
    case 'float4':
      return String(Math.fround(random.next() * 1e6))
    case 'float8':
      return random.pick([String(random.next()), '1e300', '-0.1', '"NaN"', '"Infinity"', '"-Infinity"'])
    case 'numeric':
      return random.pick([
        '"0"',
        '"-0.01"',
        '"12345678901234567890.123456789"',
        '"-99999999999999999999.9"',
        '"1.50"',
      ])
    case 'uuid':
      return `"${hex(8)}-${hex(4)}-${hex(4)}-${hex(4)}-${hex(12)}"`
    case 'bytea':
      return `"${Buffer.from(Array.from({ length: random.int(0, 20) }, () => random.int(0, 255))).toString('base64')}"`
    case 'jsonb':
      return random.pick(['{"a":[1,{"b":null}]}', '12345678901234567890', '"text"', '[]', 'true'])
    case 'date':
      return `"${date()}"`
    case 'timestamp':
      return `"${time()}"`
    case 'timestamptz':
      return `"${time()}Z"`
    case 'int4[]':
      return random.pick(['[]', '[1,null,3]', '[[1],[2]]'])
    case 'interval':
      return '"P1DT2H"'
    default:
      return JSON.stringify(random.pick(TEXTS))
  }
}

/** Raw values, in the order of the columns. */
export const madeUp = (rows: number, random: Random): string[][] =>
  Array.from({ length: rows }, () => COLUMNS.map(({ type }) => raw(type, random)))

export const rowText = (values: readonly string[]): string =>
  `{${values.map((value, i) => `"${COLUMNS[i]!.name}":${value}`).join(',')}}`

export async function fileBytes(rows: readonly string[], options: FileOptions, chunk = 777): Promise<Buffer> {
  const lines = Buffer.from(rows.map(row => lineOf(row, COLUMNS, options)).join(''))
  async function* chunks() {
    for (let at = 0; at < lines.length; at += chunk) yield lines.subarray(at, at + chunk)
  }
  const bytes: Buffer[] = []
  for await (const part of fileOf('some table', COLUMNS, chunks(), options)) bytes.push(part)
  return Buffer.concat(bytes)
}

/** µs since 1970. */
export const microsOf = (text: string): bigint => {
  const [whole, fraction = ''] = text.replace(/Z$/, '').split('.')
  return BigInt(Date.parse(`${whole}Z`)) * 1000n + BigInt(fraction.padEnd(6, '0'))
}

/** A decimal without what does not change it: 1.50 is 1.5. */
export const decimalText = (text: string): string => {
  const plain = text.includes('.') ? text.replace(/\.?0+$/, '') : text
  return plain === '-0' ? '0' : plain
}

/** What a value is, in one text for all readers. */
export function expected(type: string, value: string): string | null {
  if (value === 'null') return null
  const plain = value.startsWith('"') ? (JSON.parse(value) as string) : value
  switch (type) {
    case 'numeric':
      return decimalText(plain)
    case 'float4':
    case 'float8':
      return String(Number(plain))
    case 'timestamp':
    case 'timestamptz':
      return String(microsOf(plain))
    case 'jsonb':
    case 'int4[]':
      return value
    default:
      return plain
  }
}
