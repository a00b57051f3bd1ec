/** Changes into topics of a Kafka cluster, which need not be the hub's own. */
import { type Context, defineSink, type SinkTarget } from '../../core/connector.ts'
import { serializer } from '../../core/format/serialize.ts'
import { openAdmins } from '../../core/kafka/admins.ts'
import { batchCodec, kafkaClient } from '../../core/kafka/client.ts'
import { openTransactions } from '../../core/kafka/transactions.ts'
import { type KafkaSinkConfig, settingsOf, sinkConfig } from './config.ts'
import { refuseForgetful, standingBatch } from './positions.ts'
import { openKafkaSink, topicName, transactionalId } from './writer.ts'

const BATCH = { records: 10_000, bytes: 8 << 20 }

export const kafka = defineSink({
  name: 'kafka',
  summary: 'Writes changes or rows into topics of a Kafka cluster, exactly once.',
  config: sinkConfig,
  examples: [
    { title: 'A topic for each table', config: { brokers: ['localhost:9092'] } },
    {
      title: 'Rows in compacted topics, deletes as tombstones, Avro with a schema registry',
      config: {
        brokers: ['kafka-1.example.com:9093', 'kafka-2.example.com:9093'],
        tls: { ca: '/etc/ssl/kafka-ca.pem' },
        sasl: { mechanism: 'scram-sha-512', username: 'shop', password: '${env:KAFKA_PASSWORD}' },
        topic: 'shop.${table}',
        view: 'row',
        format: 'avro',
        registry: { url: 'http://localhost:8081' },
        partitions: 12,
        topic_config: { 'cleanup.policy': 'compact' },
      },
    },
  ],
  batch: BATCH,
  keyed: () => false,
  delivery: () => 'exactly_once',
  target: (config, table) =>
    `${config.brokers.join(',')}/${topicName(config, table, `${table.schema}.${table.name}`)}`,
  async check(config, context) {
    serializer(config)
    batchCodec(config.compression)
    await using admins = openAdmins(kafkaClient(settingsOf(config), context.log), context.clock)
    const topics = await admins.use(`looking at ${config.brokers.join(', ')}`, admin => admin.listTopics())
    if (topics.includes(config.position_topic)) await refuseForgetful(admins, config.position_topic)
  },
  async plan(config, tables, context): Promise<readonly SinkTarget[]> {
    await using admins = openAdmins(kafkaClient(settingsOf(config), context.log), context.clock)
    const known = new Set(
      await admins.use(`looking at ${config.brokers.join(', ')}`, admin => admin.listTopics()),
    )
    const { view, format, partitions, compression } = config
    return tables.map(({ table, topic }) => {
      const name = topicName(config, table, topic)
      return {
        name,
        tables: [`${table.schema}.${table.name}`],
        exists: known.has(name),
        definition: { view, format, compression, partitions },
        differences: [],
      }
    })
  },
  open: (config: KafkaSinkConfig, context: Context) => openKafkaSink(config, context),
  async forget(config, tasks, context) {
    const settings = settingsOf(config)
    const client = kafkaClient(settings, context.log)
    await using admins = openAdmins(client, context.clock)
    const topics = await admins.use('looking for positions', admin => admin.listTopics())
    if (!topics.includes(config.position_topic)) return
    const { clock } = context
    for (const task of tasks) {
      const id = transactionalId(config, task)
      await using transactions = await openTransactions({
        kafka: client,
        settings,
        clock,
        transactionalId: id,
      })
      const gone = standingBatch(
        config.position_topic,
        batchCodec(config.compression),
        task,
        null,
        clock.nowUs() / 1000,
      )
      await transactions.run(async transaction => void (await transaction.send([gone])))
    }
  },
})
