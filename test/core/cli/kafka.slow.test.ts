/** The program with its log on a real Kafka: the same pipeline file, killed, gone on with, looked at and deleted. */
import { join } from 'node:path'
import kafkajs, { type Admin } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readDocuments } from '../../../connectors/sqlite/documents.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { newFolder, until } from './program.ts'

const missing = missingForKafka()
const ROWS = 20_000
const CHANGES = 3_000
const PIPELINE = (rate: number) => `name: made-up
source: { type: generate, rows: ${ROWS}, changes: ${CHANGES}, rate: ${rate} }
log: { partitions: 2 }
sinks:
  - { name: index, type: sqlite, path: index.db }
  - { name: out, type: stdout }
`

describe.skipIf(missing !== null)(
  missing === null ? 'the log on Kafka' : `the log on Kafka: ${missing}`,
  () => {
    let cluster: KafkaCluster
    let admin: Admin
    beforeAll(async () => {
      cluster = await startKafka()
      admin = new kafkajs.Kafka({
        brokers: [...cluster.bootstrap],
        logLevel: kafkajs.logLevel.NOTHING,
      }).admin()
      await admin.connect()
    })
    afterAll(async () => {
      await admin?.disconnect()
      await cluster?.[Symbol.asyncDispose]()
    })

    const documents = (folder: string) => readDocuments(join(folder, 'index.db'), 'items')
    const hub = () => `log: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }\n`

    it('goes on where it was after kill -9, with the documents that one run on files has; delete leaves nothing', async () => {
      using plain = newFolder()
      plain.write('p.yaml', PIPELINE(0))
      expect(await plain.run(['run', 'p.yaml', '--until-caught-up'])).toMatchObject({ code: 0 })
      using folder = newFolder()
      folder.write('hub.yaml', hub())
      folder.write('p.yaml', PIPELINE(0))
      for (let kills = 0; kills < 3; kills++) {
        const killed = folder.start(['run', 'p.yaml'])
        await new Promise(resolve => setTimeout(resolve, 900 + kills * 400))
        killed.child.kill('SIGKILL')
        await killed.ended
      }
      const { code, stdout, stderr } = await folder.run(['run', 'p.yaml', '--until-caught-up'])
      expect(code, stderr).toBe(0)
      expect(documents(folder.path)).toEqual(documents(plain.path))
      const line = JSON.parse(stdout.split('\n')[0] || '{"topic":"made-up.generate.items"}')
      expect(line.topic).toBe('made-up.generate.items')
      const own = async () => (await admin.listTopics()).filter(topic => topic.startsWith('made-up')).sort()
      expect(await own()).toEqual(['made-up.generate.items', 'made-up.offsets'])
      const groups = async () =>
        (await admin.listGroups()).groups
          .map(one => one.groupId)
          .filter(one => one.startsWith('millrace.made-up'))
      expect((await groups()).sort()).toEqual(['millrace.made-up.index', 'millrace.made-up.out'])
      expect((await folder.run(['delete', 'made-up', '--yes', '--file', 'p.yaml'])).code).toBe(0)
      expect(await own()).toEqual([])
      expect(await groups()).toEqual([])
    }, 240_000)

    it('keeps for longer what a sink has not read (K5)', async () => {
      using folder = newFolder()
      const topic = 'held.generate.items'
      folder.write('hub.yaml', hub())
      folder.write('p.yaml', PIPELINE(0).replace('made-up', 'held'))
      const running = folder.start(['run', 'p.yaml'])
      running.child.stdout!.pause() // what is not read stops the sink
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
      expect(running.stderr()).toMatch(
        /retention\.ms of held\.generate\.items is raised from 40000 to \d+: held\/out\/[01] has not read/,
      )
      running.child.kill('SIGKILL')
      await running.ended
    })

    it('shows where it stands, and names what is wrong with the cluster', async () => {
      using folder = newFolder()
      folder.write('hub.yaml', hub())
      folder.write('pipelines/p.yaml', PIPELINE(500).replace('made-up', 'shown'))
      const running = folder.start(['up', '--port', '0'])
      const status = async () => JSON.parse((await folder.run(['status', '--json'])).stdout)
      await until(async () => (await status()).pipelines?.[0]?.state === 'following', 'following')
      const [pipeline] = (await status()).pipelines
      expect(pipeline.log.bytes).toBeNull()
      expect(pipeline.tasks.map((task: { name: string }) => task.name)).toContain('shown/index/1')
      expect((await folder.run(['status'])).stdout).toContain('log on Kafka')
      // What lag tools look at comes to the log's end, also of the sink that keeps its position itself (K3).
      const topic = 'shown.generate.items'
      const lags = async (sink: string) => {
        const ends = await admin.fetchTopicOffsets(topic)
        const [group] = await admin.fetchOffsets({ groupId: `millrace.shown.${sink}`, topics: [topic] })
        return ends.map(({ partition, high }) => {
          const { offset } = group!.partitions.find(one => one.partition === partition)!
          return Number(high) - Number(offset)
        })
      }
      for (const sink of ['index', 'out'])
        await until(
          async () => (await lags(sink)).every(lag => lag === 0),
          `the group of ${sink} is at the end`,
        )
      running.child.kill('SIGTERM')
      expect((await running.ended).code).toBe(0)
      folder.write('hub.yaml', 'log: { type: kafka, brokers: ["127.0.0.1:9"] }\n')
      const away = await folder.run(['run', 'pipelines/p.yaml'])
      expect(away.code).toBe(1)
      expect(away.stderr).toContain('127.0.0.1:9')
      expect(away.stderr).not.toContain('    at ')
    }, 120_000)
  },
)
