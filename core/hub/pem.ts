/** Certificates and keys that hub.yaml names by their paths. */
import { readFileSync } from 'node:fs'
import { ConnectorError } from '../errors.ts'

/** `key`: what names it in the file, for the message. null: nothing does. */
export function readPem(key: string, path: string | undefined): string | null {
  if (path === undefined) return null
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConnectorError('config', `${key}: ${path} cannot be read: ${(error as Error).message}`, {
      hint: 'It is the path of a PEM file.',
      cause: error,
    })
  }
}
