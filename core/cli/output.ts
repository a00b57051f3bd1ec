/**
 * What commands print: results on stdout, logs and problems on stderr; with --json one JSON value on stdout. Exit codes: 0 done,
 * 1 failed or differences found, 2 bad input.
 */
import { asConnectorError, type ConnectorError } from '../errors.ts'

/** Bad input: everything about it was already printed. */
export class BadInput extends Error {}
/** Failed, and everything about it was already printed. */
export class Failed extends Error {}

export const print = (text: string): void => void process.stdout.write(`${text}\n`)
export const printJson = (value: unknown): void => print(JSON.stringify(value))
export const complain = (text: string): void => void process.stderr.write(`${text}\n`)

export function complainOf(error: ConnectorError, redact: (text: string) => string): void {
  complain(redact(`error: ${error.message}`))
  if (error.hint) complain(redact(`  ${error.hint.replaceAll('\n', '\n  ')}`))
}

/** Columns padded to the widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  return rows
    .map(row =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

const number = new Intl.NumberFormat('en')
export const count = (n: number): string => number.format(Math.round(n))
export const size = (bytes: number): string =>
  bytes < 1e3
    ? `${bytes} B`
    : bytes < 1e6
      ? `${(bytes / 1e3).toFixed(1)} kB`
      : bytes < 1e9
        ? `${(bytes / 1e6).toFixed(1)} MB`
        : `${(bytes / 1e9).toFixed(1)} GB`

/** A user's mistake is no stack trace; a mistake of ours is one. */
export function exitCodeOf(thrown: unknown, redact: (text: string) => string): number {
  if (thrown instanceof BadInput) return 2
  if (thrown instanceof Failed) return 1
  const error = asConnectorError(thrown)
  complainOf(error, redact)
  if (error.kind === 'bug' && error.cause instanceof Error) complain(redact(error.cause.stack ?? ''))
  return 1
}
