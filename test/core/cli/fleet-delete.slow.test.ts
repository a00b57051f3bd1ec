/** A pipeline is deleted while several hubs offer it: none of them makes it again, and whoever gives its file anew has a new one. */
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { type Folder, newFolder, type Running, until } from './program.ts'

const missing = missingForKafka() ?? missingForRedis()
const PIPELINE = (partitions: number) => `name: kept
source: { type: generate, rows: 100, changes: 1000000, rate: 20 }
log: { partitions: ${partitions} }
sinks:
  - { name: out, type: stdout }
errors: { retry: { backoff_ms: 50, max_backoff_ms: 500 } }
`

describe.skipIf(missing !== null)(
  missing === null ? 'delete among hubs' : `delete among hubs: ${missing}`,
  () => {
    let cluster: KafkaCluster
    let redis: RedisServer
    let admin: kafkajs.Admin
    beforeAll(async () => {
      ;[cluster, redis] = await Promise.all([startKafka(), startRedis()])
      admin = new kafkajs.Kafka({
        brokers: [...cluster.bootstrap],
        logLevel: kafkajs.logLevel.NOTHING,
      }).admin()
      await admin.connect()
    })
    afterAll(async () => {
      await admin?.disconnect()
      await cluster?.[Symbol.asyncDispose]()
      await redis?.[Symbol.asyncDispose]()
    })

    const write = (folder: Folder, name: string, partitions = 1) => {
      folder.write(
        'hub.yaml',
        `name: ${name}
log: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }
queue: { type: bullmq, url: "${redis.url}" }
`,
      )
      folder.write('pipelines/p.yaml', PIPELINE(partitions))
    }
    const start = (folder: Folder) => folder.start(['hub', '--port', '0'])
    const shown = async (folder: Folder): Promise<readonly { name: string; state: string }[]> =>
      JSON.parse((await folder.run(['status', '--json'])).stdout || '{}').pipelines?.flatMap(
        (one: { tasks: object[] }) => one.tasks,
      ) ?? []
    const runs = (folder: Folder, tasks: number) =>
      until(async () => {
        const all = await shown(folder)
        return all.length === tasks && all.every(task => task.state === 'running')
      }, `${tasks} tasks run`)
    const topics = async () => (await admin.listTopics()).filter(topic => topic.startsWith('kept')).sort()
    const end = async (running: readonly Running[]) => {
      for (const one of running) one.child.kill('SIGTERM')
      for (const one of running) expect((await one.ended).code).toBe(0)
    }

    it('the other hub lets go of it; made anew at once it is the new one, which neither takes for the old', async () => {
      using folder = newFolder()
      using other = newFolder()
      for (const one of [folder, other]) write(one, 'fleet-d')
      const [hub, second] = [start(folder), start(other)]
      const worker = folder.start(['worker'])
      for (const one of [folder, other]) await runs(one, 2)
      const removed = await folder.run(['delete', 'kept', '--yes'])
      expect(removed, removed.stderr).toMatchObject({ code: 0 })
      expect(await topics()).toEqual([])
      expect(await shown(other)).toEqual([])
      expect(second.stderr()).toContain('was deleted at another hub')
      // What one process is given anew, with another number of partitions, the other one leaves alone.
      await end([hub])
      write(folder, 'fleet-d', 2)
      const again = start(folder)
      await runs(folder, 3)
      const taken = worker.stderr().split('is run here').length
      for (let looks = 0; looks < 5; looks++) {
        await new Promise(resolve => setTimeout(resolve, 1_000)) // a look of each hub
        await runs(folder, 3)
      }
      expect(worker.stderr().split('is run here').length, 'no task was taken away').toBe(taken)
      expect(await topics()).not.toEqual([])
      // The one that let go of it may be given it anew, too.
      await end([second])
      write(other, 'fleet-d', 2)
      const third = start(other)
      await runs(other, 3)
      const last = await other.run(['delete', 'kept', '--yes'])
      expect(last, last.stderr).toMatchObject({ code: 0 })
      expect(await topics()).toEqual([])
      expect(await shown(folder)).toEqual([])
      await end([again, third, worker])
    }, 240_000)

    it('Redis wiped in the middle of it, a hub frozen over it, and one that has no hub in its folder', async () => {
      using folder = newFolder()
      using other = newFolder()
      using third = newFolder()
      for (const one of [folder, other, third]) write(one, 'fleet-e')
      const running = [start(folder), start(other), folder.start(['worker'])]
      for (const one of [folder, other]) await runs(one, 2)
      const removing = folder.run(['delete', 'kept', '--yes'])
      await until(
        async () => (await redis.command('HGET', 'millrace:fleet-e-withdrawn', 'kept')) !== null,
        'the mark is left',
      )
      await redis.command('FLUSHALL')
      const removed = await removing
      expect(removed, removed.stderr).toMatchObject({ code: 0 })
      expect(await shown(other)).toEqual([])
      expect(await topics()).toEqual([])
      // Anew at both; one of them sleeps over the whole of the delete, which is said where no hub runs.
      await end(running.slice(0, 2))
      const hubs = [start(folder), start(other)]
      for (const one of [folder, other]) await runs(one, 2)
      hubs[1]!.child.kill('SIGSTOP')
      const away = await third.run(['delete', 'kept', '--yes'])
      expect(away, away.stderr).toMatchObject({ code: 0 })
      hubs[1]!.child.kill('SIGCONT')
      await until(async () => (await shown(other)).length === 0, 'it lets go of it when it wakes')
      expect(await shown(folder)).toEqual([])
      await end([...hubs, running[2]!])
    }, 240_000)
  },
)
