/** The real disk. */
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'

const FLAGS = { create: 'wx+', read: 'r', write: 'r+' } as const

function fileOf(handle: FileHandle): DiskFile {
  return {
    async write(bytes, position) {
      // One call may write less than all (a signal, the last bytes of a full disk).
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at)
        at += bytesWritten
      }
    },
    async read(into, length, position) {
      let got = 0
      while (got < length) {
        const { bytesRead } = await handle.read(into, got, length - got, position + got)
        if (bytesRead === 0) break
        got += bytesRead
      }
      return got
    },
    sync: () => handle.datasync(),
    truncate: length => handle.truncate(length),
    size: async () => (await handle.stat()).size,
    close: () => handle.close(),
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export const nodeDisk: Disk = {
  async mkdir(path) {
    const first = await mkdir(path, { recursive: true })
    if (first === undefined) return
    // Every directory that was made stands in the one above it.
    for (let made = resolve(path); made.length >= first.length; made = dirname(made))
      await syncDirectory(dirname(made))
  },
  list: async path => (await readdir(path)).sort(),
  open: async (path, mode) => fileOf(await open(path, FLAGS[mode], 0o600)),
  rename,
  remove: unlink,
  syncDirectory,
}
