/**
 * Files of a directory as a source reads them. When a file came is its ctime: writing sets it, and so does moving a file here, which keeps
 * the mtime of years ago. What it holds is another when size, mtime or inode are.
 */
import type { Dirent, Stats } from 'node:fs'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ConnectorError } from '../../core/errors.ts'
import type { Found, ReadableStore } from '../object/store.ts'
import { codeOf, fileError } from './store.ts'

const HINT = 'Check `directory`, and that the user of this process may read all below it.'

export function fileReading(root: string): ReadableStore {
  return {
    name: root,
    list: () => list(root, ''),
    async look(name) {
      const stats = await statOf(join(root, name))
      return stats?.isFile() ? foundOf(name, stats) : null
    },
    range: (object, from, length) => range(join(root, object.name), object, from, length),
    async [Symbol.asyncDispose]() {},
  }
}

const foundOf = (name: string, { size, mtimeMs, ctimeMs, ino }: Stats): Found => ({
  name,
  size,
  modifiedMs: Math.floor(Math.max(ctimeMs, mtimeMs)),
  version: `${mtimeMs}-${ino}`,
})

/** null: there is none. */
async function statOf(path: string): Promise<Stats | null> {
  try {
    return await stat(path)
  } catch (error) {
    if (/ENOENT|ENOTDIR/.test(codeOf(error))) return null
    throw fileError(error, `looking at ${path}`, HINT)
  }
}

const PAGE = 1_000
/** Nothing in them is read, and they may be closed to us: what looking.ts leaves out, and what file systems keep at their root. */
const LEFT_OUT = /^[._]|^lost\+found$/

/** As a bucket lists: `a.csv` before what is in the folder `a`. Links to folders are not followed. */
async function* list(root: string, folder: string): AsyncGenerator<readonly Found[]> {
  let entries: Dirent[]
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true })
  } catch (error) {
    if (folder !== '' && codeOf(error) === 'ENOENT') return // gone since it was listed
    if (codeOf(error) === 'ENOENT')
      throw new ConnectorError('unavailable', `there is no directory ${root}`, {
        cause: error,
        hint: 'Make or mount it, or mend `directory`.',
      })
    throw fileError(error, `listing ${join(root, folder)}`, HINT)
  }
  const named = entries.map(entry => ({
    entry,
    bytes: Buffer.from(entry.name + (entry.isDirectory() ? '/' : '')),
  }))
  named.sort((a, b) => Buffer.compare(a.bytes, b.bytes))
  let page: Found[] = []
  for (const { entry } of named) {
    const name = folder + entry.name
    if (entry.isDirectory()) {
      if (LEFT_OUT.test(entry.name)) continue
      yield page
      page = []
      yield* list(root, `${name}/`)
      continue
    }
    if (!entry.isFile() && !entry.isSymbolicLink()) continue
    const stats = await statOf(join(root, name))
    if (stats?.isFile()) page.push(foundOf(name, stats))
    if (page.length < PAGE) continue
    yield page
    page = []
  }
  yield page
}

async function range(path: string, object: Found, from: number, length: number): Promise<Buffer | null> {
  let file: FileHandle | null = null
  try {
    file = await open(path, 'r')
    const bytes = Buffer.alloc(length)
    let read = 0
    while (read < length) {
      const { bytesRead } = await file.read(bytes, read, length - read, from + read)
      if (bytesRead === 0) return null
      read += bytesRead
    }
    const now = foundOf(object.name, await file.stat()) // looked at behind the read, so that it holds for what was read
    return now.version === object.version && now.size === object.size ? bytes : null
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw fileError(error, `reading ${path}`, HINT)
  } finally {
    await file?.close()
  }
}
