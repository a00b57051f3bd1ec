/** A disk that is full soon: a file system in memory, for tests of what happens then. Mounting takes root. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeHome, removeHome } from './process.ts'

export interface SmallDisk extends Disposable {
  readonly path: string
  /** Leaves no room at all. */
  fill(): void
  /** Takes away what `fill` wrote. */
  makeRoom(): void
}

/** Why this machine has none (null: it has). */
export const missingForSmallDisk = (): string | null =>
  process.platform === 'linux' && process.getuid?.() === 0 ? null : 'a small disk needs root on Linux'

/** `owner`: the user of its root, who runs what writes there. */
export function mountSmallDisk(mb: number, owner = 0): SmallDisk {
  const home = makeHome('disk')
  const path = join(home, 'disk')
  mkdirSync(path)
  chmodSync(home, 0o755)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mb}m,mode=700,uid=${owner}`, 'tmpfs', path])
  const filler = join(path, 'filler')
  return {
    path,
    fill() {
      for (const size of [1 << 20, 4_096])
        try {
          for (;;) writeFileSync(filler, Buffer.alloc(size), { flag: 'a' })
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        }
    },
    makeRoom: () => rmSync(filler, { force: true }),
    [Symbol.dispose]() {
      execFileSync('umount', ['-l', path])
      removeHome(home)
    },
  }
}
