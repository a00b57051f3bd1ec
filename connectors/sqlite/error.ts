/** SQLite's result codes as our kinds of error. */
import { ConnectorError, Fenced } from '../../core/errors.ts'

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String((error as { code: unknown }).code) : ''

/** Busy, full, locked: try again. No such folder, not a database, read only: a person must act. The rest is a bug of ours. */
export function sqliteError(error: unknown, path: string): Error {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  const message = error instanceof Error ? error.message : String(error)
  const code = codeOf(error)
  const told = `SQLite file ${path}: ${message}`
  if (/BUSY|LOCKED/.test(code) || /database is locked/.test(message))
    return new ConnectorError('unavailable', told, { cause: error })
  if (/FULL|IOERR/.test(code) || /disk is full|disk I\/O/.test(message))
    return new ConnectorError('unavailable', told, {
      cause: error,
      hint: 'Make room on the disk; writing goes on by itself.',
    })
  if (
    /NOTADB|CANTOPEN|READONLY|PERM|EACCES|ENOTDIR|EROFS|CORRUPT/.test(code) ||
    /not a database|unable to open|malformed|readonly/.test(message)
  )
    return new ConnectorError('config', told, {
      cause: error,
      hint: 'Check `path` and the rights of its folder.',
    })
  return new ConnectorError('bug', told, { cause: error })
}
