/** The program as its user runs it: a child process on dist/, in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Family, readMetrics } from '../../conform/prometheus.ts'

const MAIN = fileURLToPath(new URL('../../../dist/core/cli/main.js', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  stdout(): string
  stderr(): string
  readonly ended: Promise<Ended>
}

export interface Folder extends Disposable {
  readonly path: string
  write(name: string, text: string): void
  start(args: readonly string[], env?: NodeJS.ProcessEnv, shell?: string): Running
  run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended>
}

export function newFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'millrace-cli-'))
  const children = new Set<ChildProcess>()
  /** `shell`: a prefix as "ulimit -f 100;". */
  const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}, shell?: string): Running => {
    const command = shell
      ? ['bash', '-c', `${shell} exec "$@"`, 'bash', process.execPath, MAIN, ...args]
      : [process.execPath, MAIN, ...args]
    const child = spawn(command[0]!, command.slice(1), {
      cwd: path,
      env: { ...process.env, DATABASE_URL: '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    children.add(child)
    child.on('close', () => children.delete(child))
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', text => (stdout += text))
    child.stderr.on('data', text => (stderr += text))
    const ended = new Promise<Ended>(resolve => child.on('close', code => resolve({ code, stdout, stderr })))
    return { child, stdout: () => stdout, stderr: () => stderr, ended }
  }
  return {
    path,
    write(name, text) {
      mkdirSync(join(path, name, '..'), { recursive: true })
      writeFileSync(join(path, name), text)
    },
    start,
    run: (args, env) => start(args, env).ended,
    [Symbol.dispose]() {
      for (const child of children) child.kill('SIGKILL') // of a test that failed before it ended them
      rmSync(path, { recursive: true, force: true })
    },
  }
}

export async function until(is: () => boolean | Promise<boolean>, what: string, ms = 90_000): Promise<void> {
  const end = Date.now() + ms
  while (!(await is())) {
    if (Date.now() > end) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 30))
  }
}

/** What a process shows at /metrics of tasks and pipelines, looked through by the grammar. */
export async function metricsAt(url: string): Promise<ReadonlyMap<string, Family>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return readMetrics(text)
}
