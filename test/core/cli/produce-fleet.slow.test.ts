/**
 * Rows that are brought to hubs whose log is on a real Kafka, with a worker that drains it: two hubs written at once, and the command
 * line beside them. Each fences the others with every turn; each row stands once, in versions that rise with the offsets.
 */
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readDocuments } from '../../../connectors/sqlite/documents.ts'
import type { Status } from '../../../core/hub/status.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { type Folder, metricsAt, newFolder, type Running, until } from './program.ts'

const missing = missingForKafka() ?? missingForRedis()
const TOPIC = 'orders.shop.orders'
const PIPELINE = `name: orders
source:
  type: produce
  topics:
    - { table: shop.orders, key: [id], columns: { id: text } }
log: { partitions: 2, compression: none }
sinks:
  - { name: index, type: sqlite, path: orders.db }
errors: { retry: { backoff_ms: 50, max_backoff_ms: 500 } }
`

describe.skipIf(missing !== null)(
  missing === null ? 'produce to hubs' : `produce to hubs: ${missing}`,
  () => {
    let cluster: KafkaCluster
    let redis: RedisServer
    let admin: kafkajs.Admin
    beforeAll(async () => {
      ;[cluster, redis] = await Promise.all([startKafka(), startRedis()])
      admin = kafka().admin()
      await admin.connect()
    })
    afterAll(async () => {
      await admin?.disconnect()
      await cluster?.[Symbol.asyncDispose]()
      await redis?.[Symbol.asyncDispose]()
    })
    const kafka = () =>
      new kafkajs.Kafka({ brokers: [...cluster.bootstrap], logLevel: kafkajs.logLevel.NOTHING })

    const write = (folder: Folder) => {
      const log = `log: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }`
      folder.write('hub.yaml', `name: fleet\n${log}\nqueue: { type: bullmq, url: "${redis.url}" }\n`)
      folder.write('pipelines/p.yaml', PIPELINE)
    }
    const startHub = async (folder: Folder): Promise<{ running: Running; url: string }> => {
      const running = folder.start(['hub', '--port', '0', '--json'])
      await until(() => running.stdout().includes('"url"'), 'the hub says where it is')
      const { url } = JSON.parse(running.stdout()) as { url: string }
      await until(
        async () => (await statusAt(url)).pipelines[0]?.tasks[0]?.state === 'running',
        'it can be written',
      )
      return { running, url }
    }
    const statusAt = async (url: string) => (await (await fetch(`${url}/api/status`)).json()) as Status

    const post = async (url: string, ids: readonly string[], key: string): Promise<boolean> => {
      const answer = await fetch(`${url}/api/v1/topics/${TOPIC}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify(ids.map(id => ({ id }))),
      }).catch(() => null)
      return answer?.status === 200
    }

    interface Placed {
      readonly partition: number
      readonly offset: number
      readonly id: string
      readonly version: number
    }
    const placed = async (count: number): Promise<Placed[]> => {
      const consumer = kafka().consumer({ groupId: `test-${Math.random()}` })
      const seen: Placed[] = []
      await consumer.connect()
      try {
        await consumer.subscribe({ topic: TOPIC, fromBeginning: true })
        await consumer.run({
          eachMessage: async ({ partition, message }) => {
            const version = Number(message.headers!['millrace.version']!.toString())
            const { id } = JSON.parse(message.key!.toString()) as { id: string }
            seen.push({ partition, offset: Number(message.offset), id, version })
          },
        })
        await until(() => seen.length >= count, `${count} records`)
        return seen
      } finally {
        await consumer.disconnect()
      }
    }

    it('are each written once, at once by two hubs and the command line, one hub killed; and reach the sink', async () => {
      using one = newFolder()
      using two = newFolder()
      using alone = newFolder()
      for (const folder of [one, two, alone]) write(folder)
      const worker = one.start(['worker'])
      const first = await startHub(one)
      const second = await startHub(two)
      const ids: string[] = []
      const send = async (url: string, name: string, rounds: number) => {
        for (let round = 0; round < rounds; round++) {
          const of = [`${name}-${round}-a`, `${name}-${round}-b`]
          ids.push(...of)
          // A client that was not answered sends again, to whichever hub there is.
          for (let isWritten = await post(url, of, `${name} ${round}`); !isWritten; )
            isWritten = await post(second.url, of, `${name} ${round}`)
          // One that was answered and did not hear of it does so, too.
          expect(await post(second.url, of, `${name} ${round}`)).toBe(true)
        }
      }
      const lines = Array.from({ length: 1_500 }, (_, i) => `cli-${i}`)
      ids.push(...lines)
      alone.write('input', lines.map(id => `{"id":"${id}"}`).join('\n'))
      const senders = [
        send(first.url, 'p', 15),
        send(first.url, 'q', 15),
        send(second.url, 'r', 15),
        send(second.url, 's', 15),
      ]
      const cli = alone.start(['produce', TOPIC, '--from', 'input'])
      await until(() => ids.length > 1_500 + 60, 'rows are written')
      first.running.child.kill('SIGKILL')
      await Promise.all(senders)
      expect(await cli.ended).toMatchObject({ code: 0, stdout: `1,500 records written to ${TOPIC}\n` })

      const records = await placed(ids.length)
      expect(records.map(record => record.id).sort()).toEqual(ids.sort())
      expect(new Set(records.map(record => record.version)).size).toBe(records.length)
      for (const partition of [0, 1]) {
        const own = records
          .filter(record => record.partition === partition)
          .sort((a, b) => a.offset - b.offset)
        const versions = own.map(record => record.version)
        expect(versions).toEqual([...versions].sort((a, b) => a - b))
      }

      await until(async () => {
        const [pipeline] = (await statusAt(second.url)).pipelines
        return (
          pipeline!.caught_up &&
          pipeline!.tasks.every(task => task.lag_records === 0 && task.state === 'running')
        )
      }, 'the worker has drained it')
      expect([...readDocuments(join(one.path, 'orders.db'), 'orders').keys()].sort()).toEqual(ids.sort())
      const [pipeline] = (await statusAt(second.url)).pipelines
      expect(pipeline!.state).toBe('following')
      expect(pipeline!.log_records).toBeGreaterThanOrEqual(ids.length) // marks of transactions have offsets, too
      expect(pipeline!.tasks.map(task => task.name)).toEqual([
        'orders/source',
        'orders/index/0',
        'orders/index/1',
      ])
      const counted = (await metricsAt(second.url)).get('millrace_task_records_total')
      expect(JSON.stringify(counted)).toContain('orders/source')

      expect((await two.run(['delete', 'orders', '--yes'])).code).toBe(0)
      expect((await admin.listTopics()).filter(topic => topic.startsWith('orders'))).toEqual([])
      expect(await post(second.url, ['x'], 'x')).toBe(false)
      for (const running of [second.running, worker]) {
        running.child.kill('SIGTERM')
        expect((await running.ended).code).toBe(0)
      }
    }, 300_000)
  },
)
