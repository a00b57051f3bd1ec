import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { stdout, writerTo } from '../../../connectors/stdout/sink.ts'
import type { Context } from '../../../core/connector.ts'
import { Fenced } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { atLeastOnceSinkConformance, type Held } from '../../conform/sink.ts'

definitionConformance(stdout as never)

atLeastOnceSinkConformance({
  name: 'stdout',
  async target() {
    const stream = new PassThrough()
    const rows = new Map<string, Held>()
    let rest = ''
    stream.on('data', chunk => {
      const lines = `${rest}${chunk}`.split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const { topic, partition, key, version, value } = JSON.parse(line)
        rows.set(String(key.id), { document: value.after, version, origin: `${topic}/${partition}` })
      }
    })
    return {
      open: async context => writerTo(stream, context),
      rows: async () => rows,
      async [Symbol.asyncDispose]() {
        stream.destroy()
      },
    }
  },
})

describe('stdout', () => {
  const printing = (over: Partial<Context> = {}) => {
    const stream = new PassThrough({ highWaterMark: 1_000 }) // takes what fits, and holds the next one until that is read
    return {
      stream,
      writer: writerTo(stream, testContext(over)),
      lines: () =>
        String(stream.read() ?? '')
          .split('\n')
          .filter(Boolean),
    }
  }

  it('prints {topic, partition, offset, version, key, value} a line, key and value as JSON', async () => {
    const { writer, lines } = printing()
    await writer.write(
      batchOf([recordOf({ id: 1, version: 7 }), recordOf({ op: 'sweep', version: 8, below: 8 })]),
    )
    const [first, second] = lines().map(line => JSON.parse(line) as Record<string, unknown>)
    expect(Object.keys(first!)).toEqual(['topic', 'partition', 'offset', 'version', 'key', 'value'])
    expect(first).toMatchObject({
      offset: 7,
      version: 7,
      key: { id: 1 },
      value: { op: 'u', before: null, after: { id: 1, price: '1.50' } },
    })
    expect(second).toMatchObject({ key: { sweep: 'test.kit' }, value: { op: 'sweep', below: 8 } })
  })

  it('prints nothing once its lease has run out (L1)', async () => {
    const { writer, lines } = printing({ deadlineMs: () => 0 })
    await expect(writer.write(batchOf([recordOf({ version: 1 })]))).rejects.toThrow(Fenced)
    expect(lines()).toEqual([])
  })

  it('waits for who reads it, until it is stopped; is unavailable when nobody does any more', async () => {
    const stop = new AbortController()
    const { writer, stream, lines } = printing({ signal: stop.signal })
    const long = batchOf([recordOf({ name: 'x'.repeat(2_000), version: 1 })])
    let isWritten = false
    const writing = writer.write(long).then(() => {
      isWritten = true
    })
    await new Promise(resolve => setTimeout(resolve, 20))
    expect(isWritten).toBe(false)
    expect(lines()).toHaveLength(1)
    await writing
    expect(isWritten).toBe(true)
    const stopped = writer.write(long)
    stop.abort()
    await expect(stopped).rejects.toMatchObject({ kind: 'unavailable' })
    stream.destroy()
    await expect(writer.write(long)).rejects.toMatchObject({ kind: 'unavailable' })
  })
})
