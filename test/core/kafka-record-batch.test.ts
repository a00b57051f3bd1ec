/** Record batches as kafkajs's own decoder reads them: it shares nothing with our encoder. */
import { createRequire } from 'node:module'
import { crc32c } from '@node-rs/crc32'
import { describe, expect, test } from 'vitest'
import { batchCodec } from '../../core/kafka/client.ts'
import {
  type BatchBuilder,
  batchBuilder,
  batchOf,
  type Header,
  produceBody,
  sealed,
} from '../../core/kafka/record-batch.ts'
import { missingCompression } from '../../core/log/codec.ts'
import { COMPRESSIONS } from '../../core/log/log.ts'
import { randomOf } from '../sim/random.ts'

const require = createRequire(import.meta.url)
const Decoder = require('kafkajs/src/protocol/decoder')
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder')

interface Decoded {
  readonly producerId: string
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly inTransaction: boolean
  readonly maxTimestamp: string
  readonly records: readonly {
    readonly offset: string
    readonly timestamp: string
    readonly key: Buffer | null
    readonly value: Buffer | null
    readonly headers: { readonly [name: string]: Buffer }
  }[]
}

const decoded = async (bytes: Buffer): Promise<Decoded> => decodeBatch(new Decoder(bytes))

interface Wanted {
  readonly key: string
  readonly value: string | null
  readonly timestampMs: number
  readonly headers: readonly Header[]
}

const SENDER = { producerId: 4_000_000_000_123n, epoch: 7, sequence: 2 ** 31 - 5 }

async function check(builder: BatchBuilder, wanted: readonly Wanted[]): Promise<void> {
  for (const { key, value, timestampMs, headers } of wanted)
    expect(builder.append(key, value, timestampMs, headers, Infinity)).toBe(0)
  const batch = builder.finish()
  expect(batch.count).toBe(wanted.length)
  const bytes = sealed(batch, SENDER)
  expect(bytes.readUInt32BE(17)).toBe(crc32c(bytes.subarray(21)))
  expect(bytes[16]).toBe(2)
  const found = await decoded(bytes)
  expect(found).toMatchObject({
    producerId: String(SENDER.producerId),
    producerEpoch: 7,
    firstSequence: 2 ** 31 - 5,
    inTransaction: true,
    maxTimestamp: String(Math.max(...wanted.map(one => one.timestampMs))),
  })
  expect(
    found.records.map(({ key, value, timestamp, headers, offset }) => ({
      key: key?.toString(),
      value: value?.toString() ?? null,
      timestampMs: Number(timestamp),
      offset: Number(offset),
      headers: Object.entries(headers).map(([name, text]) => [name, text.toString()]),
    })),
  ).toEqual(
    wanted.map(({ key, value, timestampMs, headers }, offset) => ({
      key,
      value,
      timestampMs,
      offset,
      headers: headers.map(({ name, value: text }) => [name.toString(), text]),
    })),
  )
}

const header = (name: string, value: string): Header => ({ name: Buffer.from(name), value })
const NASTY = [
  '',
  'a',
  'x'.repeat(24),
  'x'.repeat(25),
  'ä',
  'é'.repeat(23),
  '\u0000',
  '😀'.repeat(70),
  '\ud800',
  'Ω'.repeat(9_000),
]

describe('a record batch', () => {
  const codecs = COMPRESSIONS.filter(one => missingCompression(one) === null)
  test.for(codecs)('packed by %s is what an independent decoder reads', async codec => {
    const builder = batchBuilder('t', 3, batchCodec(codec))
    const nowMs = 1_790_000_000_000
    const lone = (text: string) => Buffer.from(text).toString() // a lone surrogate is U+FFFD in UTF-8
    await check(
      builder,
      NASTY.flatMap((key, at) =>
        NASTY.map((value, also) => ({
          key: lone(key),
          value: also === 1 ? null : lone(value),
          // earlier than the first as well, and further away than 32 bits reach
          timestampMs: nowMs + (at - 3) * (also - 4) * 10 ** at,
          headers:
            also % 3 === 0 ? [] : [header('millrace.version', String(2 ** 53 - 1)), header('s', lone(key))],
        })),
      ),
    )
  })

  test('of random records, one batch after another of the same builder', async () => {
    const { next: random } = randomOf(20261126)
    const builder = batchBuilder('t', 0, batchCodec('lz4'))
    for (let round = 0; round < 60; round++) {
      const text = (most: number) => '{"é":0}x"\n'.repeat(1 + most / 10).slice(0, Math.floor(random() * most))
      await check(
        builder,
        Array.from({ length: 1 + Math.floor(random() * 200) }, () => ({
          key: text(60),
          value: random() < 0.1 ? null : text(random() < 0.02 ? 70_000 : 400),
          timestampMs: Math.floor(random() * 2 ** 41),
          headers: [header('millrace.version', String(Math.floor(random() * 2 ** 53)))],
        })),
      )
    }
  })

  test('takes no record beyond its bound, says how large it would be, and is as large as it says', () => {
    const builder = batchBuilder('t', 0, batchCodec('none'))
    const append = (most: number) => builder.append('key', 'v'.repeat(500), 5, [header('h', '1')], most)
    const first = append(10)
    expect(first).toBeGreaterThan(560)
    expect(builder.count()).toBe(0)
    expect(append(first - 1)).toBe(first)
    expect(append(first)).toBe(0)
    expect(builder.bytes()).toBe(first)
    const second = append(first)
    expect(second).toBeGreaterThan(first)
    expect(append(second)).toBe(0)
    expect(builder.finish()).toMatchObject({ topic: 't', partition: 0, count: 2, bytes: { length: second } })
    expect(builder.count()).toBe(0)
  })
})

test('a Produce request holds each batch under its topic and partition', () => {
  const batch = (topic: string, partition: number) =>
    batchOf(topic, partition, batchCodec('none'), [
      { key: `${topic}${partition}`, value: 'v', timestampMs: 1 },
    ])
  const batches = [batch('a', 0), batch('b', 0), batch('a', 1)]
  const body = new Decoder(produceBody('hub.t/source', 30_000, batches))
  expect([body.readString(), body.readInt16(), body.readInt32()]).toEqual(['hub.t/source', -1, 30_000])
  const topics = body.readArray((topic: typeof body) => ({
    topic: topic.readString(),
    partitions: topic.readArray((one: typeof body) => [one.readInt32(), one.readBytes()]),
  }))
  expect(topics).toEqual([
    {
      topic: 'a',
      partitions: [
        [0, batches[0]!.bytes],
        [1, batches[2]!.bytes],
      ],
    },
    { topic: 'b', partitions: [[0, batches[1]!.bytes]] },
  ])
  expect(body.canReadBytes(1)).toBe(false)
})
