/**
 * One run of a search server as a child, what it says over HTTP, and the end of those whose test was killed. A server ends by
 * itself when its standard input does (search-java/Lifeline.java); one that was frozen then cannot, and is swept up.
 *
 *   <temporary files>/millrace-test-search-XXXXXX/     the server's home
 *     owner     pid of the test
 *     server    pid of the server
 *     data/     ...
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request as plain } from 'node:http'
import { request as secure } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Installation, LOG_CONFIGURATION } from './search-install.ts'

const PREFIX = 'millrace-test-search-'

export interface Launch {
  readonly home: string
  readonly installation: Installation
  readonly settings: Readonly<Record<string, string | number>>
  readonly heapMb: number
  readonly javaOptions: readonly string[]
  readonly log: (line: string) => void
}

export interface Running {
  readonly pid: number
  readonly ended: Promise<void>
  readonly hasEnded: () => boolean
  signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void
}

export interface Target {
  readonly url: string
  /** Text of the authority that signed its certificate. */
  readonly ca?: string | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
}

export interface Reply {
  readonly status: number
  /** JSON as what it says, anything else as its text. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever the server answers, which is what a test is about to find out
  readonly body: any
}

/** A folder for a server's files. What tests left behind that were killed is removed first. */
export function makeHome(): string {
  sweep()
  const home = mkdtempSync(join(tmpdir(), PREFIX))
  writeFileSync(join(home, 'owner'), String(process.pid))
  return home
}

function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter(one => one.startsWith(PREFIX))) {
    const home = join(tmpdir(), name)
    try {
      process.kill(Number(readFileSync(join(home, 'owner'), 'utf8')), 0)
    } catch (error) {
      // No such file: it is being made at this moment.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') continue
      endOrphan(home)
      rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}

/** The pid may be another program's by now: only a process that has this folder in its command line is ended. */
function endOrphan(home: string): void {
  try {
    const pid = Number(readFileSync(join(home, 'server'), 'utf8'))
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    if (pid > 1 && command.includes(home)) process.kill(pid, 'SIGKILL')
  } catch {
    // It never started, or is gone, or there is no /proc here.
  }
}

export function launch({ home, installation, settings, heapMb, javaOptions, log }: Launch): Running {
  const child = spawn(
    installation.java,
    [
      ...[`-Xms${heapMb}m`, `-Xmx${heapMb}m`, '-XX:+UseSerialGC', '-XX:-UsePerfData'],
      // Half of the work of a start is the better compiler's, which pays off in minutes only.
      '-XX:TieredStopAtLevel=1',
      ...[`-Djava.io.tmpdir=${home}`, `-Dlog4j2.configurationFile=${LOG_CONFIGURATION}`],
      ...[...installation.javaOptions, ...javaOptions],
      ...['-cp', installation.classPath.join(':'), installation.main, home, ...installation.arguments],
      ...Object.entries(settings).map(([name, value]) => `${name}=${value}`),
    ],
    // Standard input is the lifeline: nothing is written to it.
    { cwd: home, stdio: ['pipe', 'pipe', 'pipe'] },
  )
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', log)
  child.stdin.on('error', () => {})
  if (child.pid) writeFileSync(join(home, 'server'), String(child.pid))
  return watch(child, log)
}

function watch(child: ChildProcess, log: (line: string) => void): Running {
  let isOver = false
  // The lifeline does it too, but not when it is frozen.
  const killWithUs = () => child.kill('SIGKILL')
  process.once('exit', killWithUs)
  const ended = new Promise<void>(done => {
    child.once('error', error => {
      log(error.message)
      done()
    })
    // Not 'exit': by 'close' all it wrote has been read.
    child.once('close', () => done())
  }).then(() => {
    isOver = true
    process.off('exit', killWithUs)
  })
  return {
    pid: child.pid ?? 0,
    ended,
    hasEnded: () => isOver,
    signal: name => child.kill(name),
  }
}

/** On a connection of its own, so that none is left of a server that was killed. */
export function ask(target: Target, method: string, path: string, body?: unknown): Promise<Reply> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const type = typeof body === 'string' ? 'application/x-ndjson' : 'application/json'
  const { url, ca, username, password } = target
  const options = {
    method,
    agent: false,
    ...(ca === undefined ? {} : { ca }),
    ...(username === undefined ? {} : { auth: `${username}:${password ?? ''}` }),
    headers: text === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(text) },
  } as const
  return new Promise((done, fail) => {
    const request = (url.startsWith('https:') ? secure : plain)(new URL(path, url), options, response => {
      let told = ''
      response.setEncoding('utf8')
      response.on('data', part => {
        told += part
      })
      response.on('error', fail)
      response.on('end', () => {
        const isJson = /json/.test(response.headers['content-type'] ?? '')
        done({ status: response.statusCode ?? 0, body: isJson && told ? JSON.parse(told) : told })
      })
    })
    request.on('error', fail)
    request.end(text)
  })
}
