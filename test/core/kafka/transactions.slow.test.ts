/** What a broker answers that does not lead a partition yet, which is so for a moment after its topic was made. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../../../connectors/postgres/embedded.ts'
import { openAdmins } from '../../../core/kafka/admins.ts'
import { batchCodec, kafkaClient } from '../../../core/kafka/client.ts'
import { batchOf } from '../../../core/kafka/record-batch.ts'
import { openTail } from '../../../core/kafka/tail.ts'
import { endsOfTopics, makeTopics } from '../../../core/kafka/topics.ts'
import { openTransactions } from '../../../core/kafka/transactions.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { startWireProxy, type WireProxy } from '../../servers/wire-proxy.ts'
import { settingsOf, silentLog } from '../log/kafka-settings.ts'

const missing = missingForKafka()
const PRODUCE = 0
const NOT_LEADER_FOR_PARTITION = 6
const PARTITION_BYTES = 4 + 2 + 3 * 8

/** A call is its length i32, api key i16, version i16, correlation id i32; the answer (Produce 7) names one topic and partition 0. */
function refusal(call: Buffer, topic: string): Buffer | null {
  if (call.length < 12 || call.readInt16BE(4) !== PRODUCE) return null
  const name = Buffer.from(topic)
  const answer = Buffer.alloc(4 + 4 + 4 + 2 + name.length + 4 + PARTITION_BYTES + 4)
  let at = answer.writeInt32BE(answer.length - 4)
  at = answer.writeInt32BE(call.readInt32BE(8), at)
  at = answer.writeInt32BE(1, at)
  at = answer.writeInt16BE(name.length, at)
  at += name.copy(answer, at)
  at = answer.writeInt32BE(1, at)
  at = answer.writeInt32BE(0, at)
  at = answer.writeInt16BE(NOT_LEADER_FOR_PARTITION, at)
  for (let i = 0; i < 3; i++) at = answer.writeBigInt64BE(-1n, at)
  return answer
}

describe.skipIf(missing !== null)(missing ?? 'a partition that nobody leads yet', () => {
  let cluster: KafkaCluster
  let proxy: WireProxy
  beforeAll(async () => {
    const proxyPort = await freePort()
    cluster = await startKafka({ proxyPort })
    proxy = await startWireProxy(cluster.behindProxy, proxyPort)
  })
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]()
    await cluster?.[Symbol.asyncDispose]()
  })

  const key = (i: number) => `key number ${i}`
  /** Three batches of one partition, in one transaction. */
  async function writeThree(
    topic: string,
    refusals: number,
  ): Promise<{ keys: string[]; refused: string[][] }> {
    const settings = settingsOf([`127.0.0.1:${proxy.port}`], topic)
    const kafka = kafkaClient(settings, silentLog)
    await using admins = openAdmins(kafka, realClock)
    await makeTopics(admins, settings, [{ topic, partitions: 1, config: {} }])
    await endsOfTopics(admins, [topic])
    const transactions = await openTransactions({
      kafka,
      settings,
      clock: realClock,
      transactionalId: `test.${topic}`,
    })
    await using _ = transactions
    const refused: string[][] = []
    proxy.answerInstead(call => {
      const answer = refused.length < refusals ? refusal(call, topic) : null
      if (answer) refused.push([0, 1, 2].map(key).filter(one => call.includes(one)))
      return answer
    })
    try {
      await transactions.run(async transaction => {
        await transaction.send(
          [0, 1, 2].map(i =>
            batchOf(topic, 0, batchCodec('none'), [{ key: key(i), value: 'v', timestampMs: 1 }]),
          ),
        )
      })
    } finally {
      proxy.answerInstead(null)
    }
    await using tail = await openTail({
      kafka,
      settings,
      clock: realClock,
      partition: 0,
      from: new Map([[topic, 0]]),
    })
    const keys: string[] = []
    while (keys.length < 3)
      for (const message of (await tail.take(new AbortController().signal))!.messages)
        keys.push(message.key!.toString())
    return { keys, refused }
  }

  it('is asked again, alone: what stands behind it comes behind it', async () => {
    const { keys, refused } = await writeThree(`t${randomUUID()}`, 3)
    expect(refused).toEqual([[key(0)], [key(0)], [key(0)]])
    expect(keys).toEqual([key(0), key(1), key(2)])
  })

  it('is given up some time: the transaction fails, and says of what', async () => {
    await expect(writeThree(`t${randomUUID()}`, 1_000)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/the transaction of test\.t.*NOT_LEADER_FOR_PARTITION/),
    })
  })
})
