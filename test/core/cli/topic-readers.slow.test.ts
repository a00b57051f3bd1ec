/**
 * Our topics as others read them: Kafka Streams on the topics of the log, Flink SQL on rows that the `kafka` sink wrote. Each keeps
 * totals over rows that are updated and deleted; the same totals are taken by SQL of what the `sqlite` sink of the same pipeline holds.
 */
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { clientOf, committed } from '../../connectors/kafka/reading.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import {
  missingForTopicReaders,
  startFlink,
  startStreams,
  type TopicReader,
} from '../../servers/topic-readers.ts'
import { newFolder, until } from './program.ts'

/** Flink's keys are JSON. */
const kindOf = (key: string): string =>
  key.startsWith('{') ? (JSON.parse(key) as { kind: string }).kind : key

const missing = missingForKafka() ?? missingForTopicReaders()

describe.skipIf(missing !== null)(
  missing === null ? 'readers of topics' : `readers of topics: ${missing}`,
  () => {
    let kafka: KafkaCluster
    beforeAll(async () => {
      kafka = await startKafka()
      const admin = clientOf(kafka.bootstrap).admin()
      await admin.connect()
      await admin.createTopics({
        topics: ['item-totals', 'flink-totals'].map(topic => ({ topic, numPartitions: 1 })),
      })
      await admin.disconnect()
    })
    afterAll(() => kafka?.[Symbol.asyncDispose]())

    /** 5,000 rows and 5,000 changes through the log on Kafka; by kind "items price". */
    async function run(folder: ReturnType<typeof newFolder>): Promise<Map<string, string>> {
      const bootstrap = kafka.bootstrap[0]!
      folder.write('hub.yaml', `log: { type: kafka, brokers: ["${bootstrap}"] }\n`)
      folder.write(
        'shop.yaml',
        `name: shop
source: { type: generate, rows: 5000, changes: 5000, seed: 3 }
log: { partitions: 3 }
sinks:
  - { type: sqlite, path: shop.db, table: "\${table}" }
  - { type: kafka, brokers: ["${bootstrap}"], view: row, partitions: 3 }
`,
      )
      const { code, stderr } = await folder.run(['run', 'shop.yaml', '--until-caught-up'])
      expect(code, stderr).toBe(0)
      const database = new Database(join(folder.path, 'shop.db'))
      const totals = database
        .prepare(
          `SELECT substr(document ->> 'name', 1, instr(document ->> 'name', ' ') - 1) kind, count(*) items,
                sum(CAST(round((document ->> 'price') * 100) AS INTEGER)) cents
         FROM items GROUP BY 1`,
        )
        .all() as { kind: string; items: number; cents: number }[]
      database.close()
      expect(totals).toHaveLength(16)
      return new Map(totals.map(({ kind, items, cents }) => [kind, `${items} ${(cents / 100).toFixed(2)}`]))
    }

    const same = async (
      reader: TopicReader,
      topic: string,
      expected: Map<string, string>,
      read: (value: string) => string,
    ) => {
      let found = new Map<string, string>()
      await until(
        async () => {
          found = new Map(
            (await committed(kafka.bootstrap, topic)).map(({ key, value }) => [
              kindOf(String(key)),
              read(String(value)),
            ]),
          )
          return [...expected].every(([kind, total]) => found.get(kind) === total)
        },
        'the totals are those of the rows',
        100_000,
      ).catch(error => {
        expect(found, reader.log.slice(-20).join('\n')).toEqual(expected)
        throw error
      })
    }

    it('Kafka Streams keeps totals over the topic of the log', async () => {
      using folder = newFolder()
      const expected = await run(folder)
      await using reader = await startStreams(kafka.bootstrap[0]!, 'shop.generate.items')
      await same(reader, 'item-totals', expected, value => value)
    })

    it('Flink SQL keeps totals over the rows of a kafka sink', async () => {
      using folder = newFolder()
      const expected = await run(folder)
      await using reader = await startFlink(sql =>
        sql.replaceAll('localhost:9092', kafka.bootstrap[0]!).replace("'item-totals'", "'flink-totals'"),
      )
      await same(reader, 'flink-totals', expected, value => {
        const { items, price } = JSON.parse(value) as { items: number; price: number }
        return `${items} ${price.toFixed(2)}`
      })
    })
  },
)
