/** A hub and workers as their users run them, on a real Kafka and a real Redis: tasks that move, workers that are killed, a queue that is wiped. */
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../../../connectors/postgres/embedded.ts'
import { readDocuments } from '../../../connectors/sqlite/documents.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { type Folder, metricsAt, newFolder, type Running, until } from './program.ts'

const missing = missingForKafka() ?? missingForRedis()
const ROWS = 3_000
const PIPELINE = (name: string, changes: number, rate: number) => `name: ${name}
source: { type: generate, rows: ${ROWS}, changes: ${changes}, rate: ${rate} }
log: { partitions: 2 }
sinks:
  - { name: index, type: sqlite, path: ${name}.db }
errors: { retry: { backoff_ms: 50, max_backoff_ms: 500 } }
`

const MODULES = fileURLToPath(new URL('../../../node_modules', import.meta.url))
/** A connector that is not built in. */
const LINES = `import { appendFileSync } from 'node:fs'
import { z } from 'zod'
export default {
  name: 'lines',
  summary: 'Writes lines.',
  config: z.strictObject({}),
  examples: [],
  delivery: () => 'at_least_once',
  keyed: () => false,
  async check() {},
  open: async () => ({
    async write({ records }) {
      appendFileSync('lines', records.map(one => one.version + '\\n').join(''))
      return []
    },
    async [Symbol.asyncDispose]() {},
  }),
}
`

interface TaskShown {
  readonly name: string
  readonly state: string
  readonly worker: string | null
  readonly error: string | null
}
interface PipelineShown {
  readonly name: string
  readonly state: string
  readonly caught_up: boolean
  readonly tasks: readonly TaskShown[]
}

describe.skipIf(missing !== null)(
  missing === null ? 'hub and workers' : `hub and workers: ${missing}`,
  () => {
    let cluster: KafkaCluster
    let redis: RedisServer
    beforeAll(async () => {
      ;[cluster, redis] = await Promise.all([startKafka(), startRedis()])
    })
    afterAll(async () => {
      await cluster?.[Symbol.asyncDispose]()
      await redis?.[Symbol.asyncDispose]()
    })

    const hubYaml = (name: string) => `name: ${name}
log: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }
queue: { type: bullmq, url: "${redis.url}" }
`
    const shown = async (folder: Folder): Promise<readonly PipelineShown[]> =>
      JSON.parse((await folder.run(['status', '--json'])).stdout || '{}').pipelines ?? []
    const tasksOf = async (folder: Folder) => (await shown(folder)).flatMap(one => one.tasks)
    const allRun = async (folder: Folder) => {
      const tasks = await tasksOf(folder)
      return tasks.length > 0 && tasks.every(task => task.state === 'running' && task.worker !== null)
    }
    const documents = (folder: Folder, name: string) =>
      readDocuments(join(folder.path, `${name}.db`), 'items')
    const ended = async (running: Running, signal: NodeJS.Signals) => {
      running.child.kill(signal)
      return await running.ended
    }

    it('a worker killed, one frozen, one that leaves, Redis wiped: every pipeline ends with what one process makes of it', async () => {
      using plain = newFolder()
      using folder = newFolder()
      folder.write('hub.yaml', hubYaml('fleet-a'))
      const names = ['one', 'two', 'three']
      for (const name of names) {
        plain.write(`${name}.yaml`, PIPELINE(name, 4_000, 0))
        expect((await plain.run(['run', `${name}.yaml`, '--until-caught-up'])).code).toBe(0)
        folder.write(`pipelines/${name}.yaml`, PIPELINE(name, 4_000, 150))
      }
      const hub = folder.start(['hub', '--port', '0'])
      const first = folder.start(['worker'])
      await until(() => allRun(folder), 'all tasks run')
      const second = folder.start(['worker'])
      // Killed: its tasks run elsewhere, without a word from it.
      await ended(first, 'SIGKILL')
      await until(async () => {
        const tasks = await tasksOf(folder)
        return tasks.every(task => task.worker?.endsWith(`/${second.child.pid}`) === true)
      }, 'all tasks run on the second worker')
      // Frozen for longer than its leases: whatever it still writes when it thaws is refused.
      second.child.kill('SIGSTOP')
      const third = folder.start(['worker', '--concurrency', '20'])
      await until(async () => {
        const tasks = await tasksOf(folder)
        return tasks.every(task => task.worker?.endsWith(`/${third.child.pid}`) === true)
      }, 'all tasks run on the third worker')
      second.child.kill('SIGCONT')
      // The queue loses everything: a hub offers it again.
      await redis.command('FLUSHALL')
      await until(() => allRun(folder), 'all tasks run after the queue was wiped')
      // Leaves in order: what it had goes on elsewhere.
      expect((await ended(third, 'SIGTERM')).code).toBe(0)
      await until(
        async () => {
          const pipelines = await shown(folder)
          return pipelines.length === 3 && pipelines.every(one => one.state === 'ended' && one.caught_up)
        },
        'all pipelines ended and caught up',
        120_000,
      )
      for (const name of names) expect(documents(folder, name), name).toEqual(documents(plain, name))
      expect((await ended(second, 'SIGTERM')).code).toBe(0)
      expect((await ended(hub, 'SIGTERM')).code).toBe(0)
      expect(`${hub.stderr()}${second.stderr()}`).not.toContain('    at ')
    }, 300_000)

    it('two hubs at once do no harm; --only; delete ends the tasks first; a changed file is taken up; probes and metrics', async () => {
      using folder = newFolder()
      using other = newFolder()
      for (const one of [folder, other]) {
        one.write('hub.yaml', hubYaml('fleet-b'))
        one.write('pipelines/p.yaml', PIPELINE('kept', 1_000_000, 100))
      }
      const hubs = [folder.start(['hub', '--port', '0']), other.start(['hub', '--port', '0'])]
      const sources = folder.start(['worker', '--only', 'sources', '--json'])
      await until(
        async () => (await tasksOf(folder)).some(task => task.state === 'running'),
        'the source runs',
      )
      const { health } = JSON.parse(sources.stdout())
      expect((await tasksOf(folder)).filter(task => task.worker !== null).map(task => task.name)).toEqual([
        'kept/source',
      ])
      const sinks = folder.start(['worker', '--only', 'sinks'])
      await until(() => allRun(folder), 'all tasks run')
      expect((await fetch(`${health}/livez`)).status).toBe(200)
      expect((await fetch(`${health}/readyz`)).status).toBe(200)
      // What a worker counts it shows itself, and how far sinks are behind the hub: nothing stands in two places.
      await until(
        async () => (await metricsAt(health)).has('millrace_task_commit_to_durable_seconds'),
        'the worker has timed records into the log',
      )
      const ofWorker = await metricsAt(health)
      expect(ofWorker.get('millrace_task_records_total')?.samples).toMatchObject([
        { labels: 'pipeline="kept",task="kept/source"' },
      ])
      const { url } = JSON.parse(readFileSync(join(folder.path, '.millrace/hub.json'), 'utf8'))
      const ofHub = await metricsAt(url)
      expect(ofHub.get('millrace_task_lag_records')?.samples.map(one => one.labels)).toEqual(
        [0, 1].map(i => `pipeline="kept",task="kept/index/${i}",sink="index"`),
      )
      const ofAny = (name: string) => name.startsWith('millrace_process_')
      expect([...ofHub.keys()].filter(name => ofWorker.has(name) && !ofAny(name))).toEqual([])
      // The same pipeline with another rate: its tasks end, and begin again by the new file.
      const before = await tasksOf(folder)
      await ended(hubs[0]!, 'SIGKILL')
      await ended(hubs[1]!, 'SIGTERM')
      expect(before.length).toBe(3)
      folder.write('pipelines/p.yaml', PIPELINE('kept', 1_000_000, 101))
      const again = folder.start(['hub', '--port', '0'])
      await until(() => sources.stderr().split('is run here').length > 2, 'the source runs again')
      await until(() => allRun(folder), 'all tasks run by the new file')
      const removed = await folder.run(['delete', 'kept', '--yes'])
      expect(removed, removed.stderr).toMatchObject({ code: 0 })
      expect(removed.stdout).toContain('topic kept.generate.items')
      const admin = new kafkajs.Kafka({
        brokers: [...cluster.bootstrap],
        logLevel: kafkajs.logLevel.NOTHING,
      }).admin()
      await admin.connect()
      expect((await admin.listTopics()).filter(topic => topic.startsWith('kept'))).toEqual([])
      await admin.disconnect()
      for (const one of [again, sources, sinks]) expect((await ended(one, 'SIGTERM')).code).toBe(0)
    }, 180_000)

    it('two hubs keep for longer what a sink that no worker runs has not read (K5)', async () => {
      using folder = newFolder()
      using other = newFolder()
      const topic = 'behind.generate.items'
      for (const one of [folder, other]) {
        one.write('hub.yaml', hubYaml('fleet-d'))
        one.write('pipelines/p.yaml', PIPELINE('behind', 1_000_000, 100))
      }
      const hubs = [folder.start(['hub', '--port', '0']), other.start(['hub', '--port', '0'])]
      const sources = folder.start(['worker', '--only', 'sources'])
      const admin = new kafkajs.Kafka({
        brokers: [...cluster.bootstrap],
        logLevel: kafkajs.logLevel.NOTHING,
      }).admin()
      await admin.connect()
      const retention = async () => {
        const { resources } = await admin.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: 2, name: topic, configNames: ['retention.ms'] }],
        })
        return Number(resources[0]!.configEntries[0]!.configValue)
      }
      await until(async () => (await admin.listTopics()).includes(topic), 'the topic is made')
      await admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: 2, name: topic, configEntries: [{ name: 'retention.ms', value: '40000' }] }],
      })
      await until(async () => (await retention()) > 40_000, 'raised', 200_000)
      const told = () => hubs.map(one => one.stderr()).join('')
      await until(() => /behind\/index\/[01] has not read/.test(told()), 'told')
      await admin.disconnect()
      for (const one of [sources, ...hubs]) expect((await ended(one, 'SIGTERM')).code).toBe(0)
      expect(told()).not.toContain('    at ')
    })

    it('says what is missing: a queue, a secret, Redis', async () => {
      using folder = newFolder()
      folder.write('pipelines/p.yaml', PIPELINE('told', 10, 0))
      const alone = await folder.run(['worker'])
      expect(alone).toMatchObject({ code: 2, stderr: expect.stringContaining('queue.type') })
      const { host } = new URL(redis.url)
      folder.write('hub.yaml', hubYaml('fleet-c').replace(redis.url, `redis://user:hunter2@${host}`))
      const refused = await folder.run(['worker'])
      expect(refused.code).toBe(1)
      expect(refused.stderr).toContain(`Redis ${host}`)
      expect(refused.stderr).toContain('user and password')
      expect(refused.stderr).not.toContain('hunter2')
      folder.write('hub.yaml', hubYaml('fleet-c'))
      folder.write(
        'pipelines/p.yaml',
        PIPELINE('told', 10, 0).replace('told.db', '"${env:DB_FOLDER}/told.db"'),
      )
      const hub = folder.start(['hub', '--port', '0'], { DB_FOLDER: folder.path })
      const worker = folder.start(['worker'])
      await until(
        async () => (await tasksOf(folder)).some(task => task.error?.includes('DB_FOLDER')),
        'told what it lacks',
      )
      const [task] = (await tasksOf(folder)).filter(one => one.error)
      expect(task).toMatchObject({
        state: 'failing',
        error: expect.stringMatching(/p\.yaml:\d+:\d+: .*DB_FOLDER/),
      })
      for (const one of [hub, worker]) await ended(one, 'SIGTERM')
    }, 120_000)

    it('hub and worker that start while Redis is away say so, and go on when it is there', async () => {
      await using own = await startRedis()
      using folder = newFolder()
      folder.write('hub.yaml', hubYaml('fleet-h').replace(redis.url, own.url))
      folder.write('pipelines/p.yaml', PIPELINE('late', 0, 0))
      await own.kill9()
      const started = [folder.start(['hub', '--port', '0']), folder.start(['worker'])]
      for (const one of started)
        await until(
          async () =>
            /Redis 127\.0\.0\.1:\d+: .*refused/i.test(one.stderr()) && one.stderr().includes('queue.url'),
          'told that Redis is away',
        )
      const port = await freePort()
      const ends = folder.start(['worker', '--port', String(port)])
      await until(async () => ends.stderr().includes('will be tried again'), 'waits')
      const asked = async (path: string) => {
        const answer = await fetch(`http://127.0.0.1:${port}${path}`)
        return { status: answer.status, text: await answer.text() }
      }
      await until(async () => (await asked('/livez').catch(() => null))?.status === 200, 'it lives')
      expect(await asked('/readyz')).toMatchObject({ status: 503, text: expect.stringContaining('queue') })
      expect((await ended(ends, 'SIGTERM')).code).toBe(0)
      await own.start()
      await until(async () => (await shown(folder))[0]?.state === 'ended', 'ended: all of it is in the sink')
      expect(documents(folder, 'late')).toHaveLength(ROWS)
      for (const one of started) expect((await ended(one, 'SIGTERM')).code).toBe(0)
    })

    it('a worker loads the connector that a pipeline names; one that lacks it says so, and goes on when it is there', async () => {
      using folder = newFolder()
      using workers = newFolder()
      for (const one of [folder, workers]) {
        one.write('hub.yaml', hubYaml('fleet-d'))
        symlinkSync(MODULES, join(one.path, 'node_modules'))
      }
      folder.write('connectors/lines.mjs', LINES)
      folder.write(
        'pipelines/p.yaml',
        PIPELINE('other', 10, 0).replace('type: sqlite, path: other.db', 'type: ./connectors/lines.mjs'),
      )
      const hub = folder.start(['hub', '--port', '0'])
      const worker = workers.start(['worker'])
      await until(
        async () => (await tasksOf(folder)).some(task => task.error?.includes('there is no file')),
        'told what it lacks',
      )
      const told = (await tasksOf(folder)).find(task => task.error)
      expect(told).toMatchObject({
        state: 'failing',
        error: expect.stringContaining(
          'p.yaml:5:26: sinks[0].type is "./connectors/lines.mjs": there is no file',
        ),
      })
      workers.write('connectors/lines.mjs', LINES)
      const lines = () => {
        const path = join(workers.path, 'lines')
        return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
      }
      await until(async () => new Set(lines()).size === ROWS + 10, 'every change is written')
      for (const one of [hub, worker]) expect((await ended(one, 'SIGTERM')).code).toBe(0)
    }, 120_000)
  },
)
