/** Servers started by a process that a test kills, and what is left of them. From dist/: a process of Node's reads no TypeScript. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface DyingParent {
  readonly pid: number
  readonly serverPids: readonly number[]
  kill9(): Promise<void>
}

/** `call` is code: of `module`'s exports in `servers` it starts some, and is a promise of their pids. */
export async function startInChild(module: 'kafka' | 'redis', call: string): Promise<DyingParent> {
  const path = fileURLToPath(new URL(`../../dist/test/servers/${module}.js`, import.meta.url))
  const code = `const servers = await import(${JSON.stringify(path)}); console.log(JSON.stringify(await (${call})))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  const told = once(createInterface({ input: child.stdout }), 'line')
  const first = await Promise.race([told, ended])
  if (typeof first[0] !== 'string') throw new Error(`it ended before its servers ran: ${first}`)
  return {
    pid: child.pid!,
    serverPids: JSON.parse(first[0]),
    async kill9() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** One that has ended and that nobody asked after yet runs no more. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  if (!existsSync('/proc/self')) return true
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Folders of temporary files that process `owner` made for its servers. */
export function homesOf(owner: number): string[] {
  return readdirSync(tmpdir()).filter(name => {
    try {
      return (
        name.startsWith('millrace-test-') &&
        readFileSync(join(tmpdir(), name, 'owner'), 'utf8') === String(owner)
      )
    } catch {
      return false
    }
  })
}
