/**
 * Objects as files of a directory. A file is written under another name, synced, and given its name by link(2), which refuses one that
 * is taken: whole and durable, or not there.
 *
 *   <directory>/_millrace/unfinished/<task>.<pid>.<life>.<number>   what is being written; what a kill left is removed by the task's next
 *                                                                   owner, on the same machine or in the same container
 */
import { randomBytes } from 'node:crypto'
import { type FileHandle, link, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { ConnectorError } from '../../core/errors.ts'
import { safe } from '../object/layout.ts'
import type { Body, ObjectStore } from '../object/store.ts'

const UNFINISHED = '_millrace/unfinished'

interface State {
  readonly root: string
  /** Of this task, in UNFINISHED. */
  readonly owner: string
  /** Folders that are known to be durable themselves. */
  readonly synced: Set<string>
}

/** Of this process: its pid alone may be that of another on another machine, or of the one before in the same container. */
const LIFE = randomBytes(9).toString('base64url')

export const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? ''

const HINT = 'Check `directory`, its rights, and that its file system has hard links.'

/** `hint`: for what somebody must mend. */
export function fileError(error: unknown, what: string, hint = HINT): Error {
  if (error instanceof ConnectorError) return error
  const code = codeOf(error)
  const told = `${what}: ${(error as Error).message}`
  if (/ENOSPC|EDQUOT|EIO|EMFILE|ENFILE|ESTALE|ETIMEDOUT|EBUSY|ENOENT/.test(code))
    return new ConnectorError('unavailable', told, {
      cause: error,
      ...(/ENOSPC|EDQUOT/.test(code) ? { hint: 'Make room on the disk; writing goes on by itself.' } : {}),
    })
  if (/EACCES|EPERM|EROFS|ENOTDIR|EEXIST|ENAMETOOLONG|ENOTSUP|EXDEV/.test(code))
    return new ConnectorError('config', told, { cause: error, hint })
  return new ConnectorError('bug', told, { cause: error })
}

export async function fileStore(root: string, task: string): Promise<ObjectStore> {
  const state: State = { root, owner: `${safe(task)}.`, synced: new Set() }
  const guarded = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      throw fileError(error, what)
    }
  }
  await guarded(`opening ${root}`, () => sweepUnfinished(state))
  return {
    name: root,
    parallel: 4,
    unfit,
    create: (name, bytes) =>
      guarded(`writing ${join(root, name)}`, () => make(state, name, async file => file.writeFile(bytes))),
    read: name =>
      guarded(`reading ${join(root, name)}`, () =>
        readFile(join(root, name)).catch(error =>
          codeOf(error) === 'ENOENT' ? null : Promise.reject(error),
        ),
      ),
    put: (name, body) =>
      guarded(`writing ${join(root, name)}`, async () =>
        (await make(state, name, file => writeAll(file, body))) ? 'made' : 'exists',
      ),
    isSame: (name, body) => guarded(`reading ${join(root, name)}`, () => isSame(join(root, name), body)),
    list: (folder, after, most) => guarded(`listing ${root}`, () => list(state, folder, after, most)),
    remove: name => guarded(`removing ${join(root, name)}`, () => rm(join(root, name), { force: true })),
    async [Symbol.asyncDispose]() {},
  }
}

/** Of Linux, macOS and Windows, of one part of a path. */
const MOST_PART_BYTES = 255

function unfit(name: string): string | null {
  if (name.length <= MOST_PART_BYTES) return null // of ASCII, as `safe` makes it
  const long = name.split('/').find(part => Buffer.byteLength(part) > MOST_PART_BYTES)
  if (long === undefined) return null
  return `${long.slice(0, 60)}… has ${Buffer.byteLength(long)} bytes, and a name in a directory ${MOST_PART_BYTES} at most`
}

async function sweepUnfinished({ root, owner }: State): Promise<void> {
  const folder = join(root, UNFINISHED)
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(owner)) continue
    const [pid, life] = name.slice(owner.length).split('.')
    const isRunning = Number(pid) === process.pid ? life === LIFE : isAlive(Number(pid))
    if (!isRunning) await rm(join(folder, name), { force: true })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}

async function writeAll(file: FileHandle, body: Body): Promise<void> {
  for await (const chunk of body()) await file.writeFile(chunk)
}

let files = 0

/** False: the name is taken. Whoever took it may have been killed before his name was durable: it is in either case. */
async function make(
  state: State,
  name: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<boolean> {
  const { root, owner } = state
  const path = join(root, name)
  const unfinished = join(root, UNFINISHED, `${owner}${process.pid}.${LIFE}.${++files}`)
  await makeFolder(state, dirname(unfinished))
  await makeFolder(state, dirname(path))
  try {
    const file = await open(unfinished, 'wx', 0o644)
    try {
      await write(file)
      await file.sync()
    } finally {
      await file.close()
    }
    const isMade = await linked(unfinished, path)
    await syncFolder(dirname(path))
    return isMade
  } finally {
    await rm(unfinished, { force: true })
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  }
}

const MOST_SYNCED = 10_000

/** A folder is durable when the one above it is synced: also one that was there, for who made it may have been killed before that. */
async function makeFolder({ root, synced }: State, folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true })
  if (first === undefined && synced.has(folder)) return
  const least = Math.min(join(root, 'x').length, first?.length ?? Number.POSITIVE_INFINITY)
  for (let at = folder; at.length >= least && at !== dirname(at); at = dirname(at))
    await syncFolder(dirname(at))
  if (synced.size >= MOST_SYNCED) synced.clear()
  synced.add(folder)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function isSame(path: string, body: Body): Promise<boolean | null> {
  const file = await open(path, 'r').catch(error =>
    codeOf(error) === 'ENOENT' ? null : Promise.reject(error),
  )
  if (!file) return null
  try {
    for await (const chunk of body()) {
      const there = Buffer.alloc(chunk.length)
      const { bytesRead } = await file.read(there, 0, there.length)
      if (bytesRead !== chunk.length || !there.equals(chunk)) return false
    }
    return (await file.read(Buffer.alloc(1), 0, 1)).bytesRead === 0
  } finally {
    await file.close()
  }
}

/** As a bucket lists: all whose names begin so, folders included in the name. */
async function list(
  { root }: State,
  folder: string,
  after = '',
  most = Number.POSITIVE_INFINITY,
): Promise<string[]> {
  const from = join(root, folder.slice(0, folder.lastIndexOf('/') + 1))
  const entries = await readdir(from, { withFileTypes: true, recursive: true }).catch(error =>
    codeOf(error) === 'ENOENT' ? [] : Promise.reject(error),
  )
  return entries
    .filter(entry => entry.isFile())
    .map(entry => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter(name => name.startsWith(folder) && name > after && !name.startsWith(`${UNFINISHED}/`))
    .sort()
    .slice(0, most)
}
