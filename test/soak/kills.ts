/**
 * Kill rounds: the real program against a real PostgreSQL, both killed with SIGKILL at moments spread evenly, while the ledger is
 * written. A generation is a pipeline from its first start to the check; its first rounds fall into creation and snapshot.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../servers/postgres.ts'
import { type Random, randomOf } from '../sim/random.ts'
import { checkDead, checkLog, checkSink, type Found, versionWatch } from './check.ts'
import { prepareLedger, startWorkload } from './ledger.ts'

const MAIN = join(
  fileURLToPath(new URL('../../', import.meta.url)).replace(/dist\/$/, ''),
  'dist/core/cli/main.js',
)
const ROUNDS_A_GENERATION = 5
const CATCH_UP_MS = 120_000

export interface Report extends Found {
  rounds: number
  generations: number
  serverKills: number
  transactions: number
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

interface Program {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  stderr(): string
}

/** In a process group of its own, so that all of it can be killed. */
function start(folder: string, args: readonly string[], url: string): Program {
  const child = spawn(process.execPath, [MAIN, 'run', 'pipeline.yaml', ...args], {
    cwd: folder,
    env: { ...process.env, URL: url },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  let stderr = ''
  child.stderr!.on('data', text => {
    stderr = `${stderr}${text}`.slice(-4_000)
  })
  const ended = new Promise<number | null>(resolve => child.on('exit', code => resolve(code)))
  return { child, ended, stderr: () => stderr }
}

const killGroup = (child: ChildProcess): void => {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // it ended by itself, because the server was gone
  }
}

const yaml = (name: string) => `name: ${name}
source:
  type: postgres
  url: \${env:URL}
  tables: [soak.ledger, soak.extra]
  heartbeat_ms: 500
  snapshot: { chunk_rows: 1000, parallel: 2 }
sinks:
  - { name: index, type: sqlite, path: index.db }
errors: { retry: { backoff_ms: 50, max_backoff_ms: 300 } }
`

export async function killRounds(rounds: number, seed: number, say: (text: string) => void): Promise<Report> {
  const random = randomOf(seed)
  const report: Report = {
    rounds: 0,
    generations: 0,
    serverKills: 0,
    transactions: 0,
    changes: 0,
    rows: 0,
    lost: [],
    backwards: [],
    doubled: [],
    different: [],
  }
  await using server = await startPostgres()
  while (report.rounds < rounds) {
    const name = `soak-${++report.generations}`
    const folder = mkdtempSync(join(tmpdir(), 'millrace-soak-'))
    writeFileSync(join(folder, 'pipeline.yaml'), yaml(name))
    await prepareLedger(server)
    const workload = startWorkload(server, seed * 1_000 + report.generations)
    const watch = setInterval(versionWatch(join(folder, 'index.db'), report), 300)
    for (let i = Math.min(ROUNDS_A_GENERATION, rounds - report.rounds); i > 0; i--)
      await round(server, folder, random, report)
    await workload.stop()
    report.transactions += workload.transactions()
    await settle(server, folder, name, report)
    clearInterval(watch)
    const faults =
      report.lost.length + report.backwards.length + report.doubled.length + report.different.length
    say(
      `${name}: ${report.rounds} rounds, ${report.serverKills} server kills, ${report.changes} changes and ${report.rows} rows checked, ${faults} faults`,
    )
    if (faults > 0) {
      say(`seed ${seed}; kept: ${folder}`)
      return report
    }
    rmSync(folder, { recursive: true, force: true })
  }
  return report
}

async function round(
  server: Awaited<ReturnType<typeof startPostgres>>,
  folder: string,
  random: Random,
  report: Report,
): Promise<void> {
  const program = start(folder, [], server.url)
  await pause(random.int(150, 2_500))
  if (random.chance(0.2)) {
    await server.kill9()
    report.serverKills++
    if (random.chance(0.5)) await pause(random.int(0, 300))
    killGroup(program.child)
    await server.start()
  } else killGroup(program.child)
  await program.ended
  report.rounds++
}

/** A last life that may finish, then the checks. */
async function settle(
  server: Awaited<ReturnType<typeof startPostgres>>,
  folder: string,
  name: string,
  report: Report,
): Promise<void> {
  const program = start(folder, ['--until-caught-up'], server.url)
  const code = await Promise.race([program.ended, pause(CATCH_UP_MS).then(() => 'late' as const)])
  if (code !== 0) {
    killGroup(program.child)
    report.different.push(`the last run ended with ${code}: ${program.stderr()}`)
    return
  }
  const dataDir = join(folder, '.millrace')
  await checkLog(server, dataDir, name, report)
  await checkSink(server, join(folder, 'index.db'), report)
  await checkDead(dataDir, name, report)
  await server.sql(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active`)
  await server.sql(`DROP PUBLICATION IF EXISTS "millrace_${name.replaceAll('-', '_')}"`)
}
