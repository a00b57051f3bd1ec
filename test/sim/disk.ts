/**
 * A disk that forgets whatever was not synced: of the writes since the last sync any subset survives a crash, each torn at any
 * sector; names that were made, renamed or removed since the last sync of their directory may be as they were. It can run full,
 * also in the middle of a write, and fail a sync, after which the pages count as clean though they never reached it (as Linux
 * does: "fsyncgate", 2018).
 */
import { dirname } from 'node:path'
import type { Disk, DiskFile } from '../../core/log/disk.ts'

interface Change {
  readonly at: number
  /** null: the file was cut at `at`. */
  readonly bytes: Buffer | null
}

interface Inode {
  content: Buffer
  synced: Buffer
  pending: Change[]
}

export interface SimDisk {
  /** The disk as one process sees it; `pause` stands before and behind each operation. */
  mount(pause: () => Promise<void>): Disk
  /** Power is lost: what was not synced is kept, torn or gone, as chance has it. */
  crash(): void
  /** So many bytes are free from now on. */
  fill(freeBytes: number): void
  failNextSync(): void
  heal(): void
  /** Files of the directory that a crash could change. */
  unsynced(directory: string): string[]
  /** As it stands, for tests that alter bytes. */
  content(path: string): Buffer
  alter(path: string, change: (bytes: Buffer) => Buffer): void
}

const SECTOR = 512

const failed = (code: string, what: string): Error =>
  Object.assign(new Error(`${code}: simulated, ${what}`), { code })

function applied(content: Buffer, { at, bytes }: Change): Buffer {
  if (bytes === null)
    return at <= content.length
      ? content.subarray(0, at)
      : Buffer.concat([content, Buffer.alloc(at - content.length)])
  const grown = Buffer.alloc(Math.max(content.length, at + bytes.length))
  content.copy(grown)
  bytes.copy(grown, at)
  return grown
}

export function simDisk(random: () => number): SimDisk {
  let names = new Map<string, Inode>()
  let durable = new Map<string, Inode>()
  let free = Number.POSITIVE_INFINITY
  let failSync = false

  const write = (inode: Inode, change: Change) => {
    inode.content = applied(inode.content, change)
    inode.pending.push(change)
  }
  const fileOf = (inode: Inode, pause: () => Promise<void>): DiskFile => {
    const around = async <T>(act: () => T): Promise<T> => {
      await pause()
      const result = act()
      await pause()
      return result
    }
    return {
      write: (bytes, position) =>
        around(() => {
          const growth = Math.max(0, position + bytes.length - inode.content.length)
          const isFull = growth > free
          const fits = isFull ? bytes.length - (growth - free) : bytes.length
          free -= Math.min(growth, free)
          if (fits > 0) write(inode, { at: position, bytes: Buffer.from(bytes.subarray(0, fits)) })
          if (isFull) throw failed('ENOSPC', 'no space left on the disk')
        }),
      read: (into, length, position) =>
        around(() => {
          const got = Math.max(0, Math.min(length, inode.content.length - position))
          into.set(inode.content.subarray(position, position + got))
          return got
        }),
      sync: () =>
        around(() => {
          if (failSync) {
            failSync = false
            inode.pending = [] // the pages are marked clean; the next sync has nothing to do and says so
            throw failed('EIO', 'the sync failed')
          }
          for (const change of inode.pending) inode.synced = applied(inode.synced, change)
          inode.pending = []
        }),
      truncate: length => around(() => write(inode, { at: length, bytes: null })),
      size: () => around(() => inode.content.length),
      close: () => around(() => {}),
    }
  }

  const mount = (pause: () => Promise<void>): Disk => {
    const around = async <T>(act: () => T): Promise<T> => {
      await pause()
      const result = act()
      await pause()
      return result
    }
    const found = (path: string): Inode => {
      const inode = names.get(path)
      if (!inode) throw failed('ENOENT', `no file ${path}`)
      return inode
    }
    return {
      mkdir: () => around(() => {}),
      list: path =>
        around(() =>
          [...names.keys()]
            .filter(name => dirname(name) === path)
            .map(name => name.slice(path.length + 1))
            .sort(),
        ),
      open: (path, mode) =>
        around(() => {
          if (mode !== 'create') return fileOf(found(path), pause)
          if (names.has(path)) throw failed('EEXIST', `${path} is there`)
          const inode: Inode = { content: Buffer.alloc(0), synced: Buffer.alloc(0), pending: [] }
          names.set(path, inode)
          return fileOf(inode, pause)
        }),
      rename: (from, to) =>
        around(() => {
          const inode = found(from)
          names.delete(from)
          names.set(to, inode)
        }),
      remove: path =>
        around(() => {
          found(path)
          names.delete(path)
        }),
      syncDirectory: path =>
        around(() => {
          for (const name of [...durable.keys()])
            if (dirname(name) === path && !names.has(name)) durable.delete(name)
          for (const [name, inode] of names) if (dirname(name) === path) durable.set(name, inode)
        }),
    }
  }

  /** Each sector of a write that was not synced made it or did not. */
  const torn = (inode: Inode): Buffer => {
    let content = inode.synced
    for (const { at, bytes } of inode.pending) {
      if (random() < 0.3) continue
      if (bytes === null || random() < 0.3) content = applied(content, { at, bytes })
      else if (random() < 0.5)
        content = applied(content, { at, bytes: bytes.subarray(0, Math.floor(random() * bytes.length)) })
      else
        for (let from = 0; from < bytes.length; from += SECTOR)
          if (random() < 0.6)
            content = applied(content, { at: at + from, bytes: bytes.subarray(from, from + SECTOR) })
    }
    return content
  }

  return {
    mount,
    crash() {
      const survivors = new Map(durable)
      for (const [name, inode] of names) if (!durable.has(name) && random() < 0.5) survivors.set(name, inode)
      for (const name of durable.keys()) if (!names.has(name) && random() < 0.5) survivors.delete(name)
      for (const inode of new Set(survivors.values())) {
        inode.content = torn(inode)
        inode.synced = inode.content
        inode.pending = []
      }
      names = survivors
      durable = new Map(survivors)
    },
    fill(freeBytes) {
      free = freeBytes
    },
    failNextSync() {
      failSync = true
    },
    heal() {
      free = Number.POSITIVE_INFINITY
      failSync = false
    },
    unsynced: directory =>
      [...names]
        .filter(
          ([name, inode]) =>
            dirname(name) === directory &&
            (durable.get(name) !== inode || !inode.synced.equals(inode.content)),
        )
        .map(([name]) => name),
    content: path => Buffer.from(names.get(path)!.content),
    alter(path, change) {
      const inode = names.get(path)!
      inode.content = Buffer.from(change(Buffer.from(inode.content)))
      inode.synced = inode.content
    },
  }
}
