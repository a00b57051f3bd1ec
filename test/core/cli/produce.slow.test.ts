/** `millrace produce` and the API as their users run them: with a hub and without, killed in the middle, and each row once. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readDocuments } from '../../../connectors/sqlite/documents.ts'
import type { Status } from '../../../core/hub/status.ts'
import { type Ended, type Folder, newFolder, type Running, until } from './program.ts'

const PIPELINE = `name: orders
source:
  type: produce
  topics:
    - { table: shop.orders, key: [id], columns: { id: int8, total: numeric } }
    - { table: shop.events }
log: { partitions: 2 }
sinks:
  - { name: index, type: sqlite, path: orders.db, only: [shop.orders] }
  - { name: out, type: stdout }
`
const TOPIC = 'orders.shop.orders'
const URL = 'http://127.0.0.1:4793'

const documents = (folder: Folder): string[] =>
  [...readDocuments(join(folder.path, 'orders.db'), 'orders').values()].sort()

const produce = (folder: Folder, input: string, ...more: string[]): Promise<Ended> => {
  folder.write('input', input)
  return folder.start(['produce', TOPIC, ...more], {}, 'exec < input;').ended
}

async function started(folder: Folder): Promise<Running> {
  const running = folder.start(['up', 'p.yaml', '--port', '4793', '--json'])
  await until(
    async () => (await fetch(`${URL}/api/status`).catch(() => null))?.ok === true,
    'the API answers',
  )
  await until(async () => (await status()).pipelines[0]?.state === 'following', 'the pipeline runs')
  return running
}
const status = async () => (await (await fetch(`${URL}/api/status`)).json()) as Status

describe('produce', () => {
  it('is valid, planned and checked, writes without a hub, and is drained until caught up', async () => {
    using folder = newFolder()
    folder.write('p.yaml', PIPELINE)
    const run = async (...args: string[]) => {
      const ended = await folder.run(args)
      expect(ended.code, ended.stderr).toBe(0)
      return ended.stdout
    }
    await run('validate', 'p.yaml')
    expect(await run('check', 'p.yaml')).toContain('ready')
    expect(await run('plan', 'p.yaml')).toContain('orders.shop.orders')
    const rows = '{"id":1,"total":1.10}\n\n{"id":2,"total":2.20}\n{"id":3}\n'
    expect(await produce(folder, rows, '--file', 'p.yaml')).toMatchObject({
      code: 0,
      stdout: '3 records written to orders.shop.orders\n',
      stderr: '',
    })
    expect(await produce(folder, '[{"id":4},\n{"id":5}]', '--file', 'p.yaml', '--json')).toMatchObject({
      code: 0,
      stdout: `{"topic":"${TOPIC}","records":2}\n`,
    })
    expect((await produce(folder, '{"id":1}\n2\n', '--file', 'p.yaml', '--delete')).code).toBe(0)
    const lines = (await run('run', 'p.yaml', '--until-caught-up')).trim().split('\n')
    expect(lines).toHaveLength(7)
    expect(documents(folder)).toEqual(['{"id":3}', '{"id":4}', '{"id":5}'])
    // Nothing new: it is caught up at once.
    expect(await run('run', 'p.yaml', '--until-caught-up')).toBe('')
    expect(await run('delete', 'orders', '--yes', '--file', 'p.yaml')).toContain('log and dead letters')
    expect((await produce(folder, '{"id":9}', '--file', 'p.yaml')).code).toBe(0)
    expect((await run('run', 'p.yaml', '--until-caught-up')).trim().split('\n')).toHaveLength(1)
  }, 120_000)

  it('says at which line it stopped, with what stands before it written', async () => {
    using folder = newFolder()
    folder.write('p.yaml', PIPELINE)
    const bad = (line: string) =>
      Array.from({ length: 2_500 }, (_, i) => (i === 2_222 ? line : `{"id":${i}}`)).join('\n')
    for (const [line, error] of [
      ['{"id":"x"}', 'line 2223: id (int8) holds "x"'],
      ['{"id":', 'line 2223: is no JSON'],
      ['{"total":1}', 'line 2223: has no id'],
    ] as const) {
      const ended = await produce(folder, bad(line), '--file', 'p.yaml')
      expect(ended).toMatchObject({ code: 2, stdout: '2,222 records written to orders.shop.orders\n' })
      expect(ended.stderr).toContain(error)
    }
    const ends = await folder.run(['produce', 'orders.shop.order', '--file', 'p.yaml'])
    expect(ends.code).toBe(1)
    expect(ends.stderr).toContain('there is orders.shop.orders, orders.shop.events')
    for (const [path, why] of [
      ['nowhere', 'there is no such file'],
      ['.', 'it is a folder'],
    ] as const)
      expect(await folder.run(['produce', TOPIC, '--from', path])).toMatchObject({
        ...{ code: 2, stdout: '', stderr: `${path}: ${why}\n` },
      })
    const marked = await produce(folder, '\ufeff{"id":1}\n{"id":2}', '--file', 'p.yaml')
    expect(marked, 'a mark of the byte order is none of the row').toMatchObject({ code: 0, stderr: '' })
  }, 120_000)

  it('goes through the hub that runs, whose status and page tell of it', async () => {
    using folder = newFolder()
    folder.write('p.yaml', PIPELINE)
    const hub = await started(folder)
    const rows = Array.from({ length: 3_000 }, (_, i) => `{"id":${i},"total":${i}.5}`).join('\n')
    for (let times = 0; times < 2; times++)
      expect(await produce(folder, rows, '--idempotency-key', 'the-same')).toMatchObject({
        code: 0,
        stdout: '3,000 records written to orders.shop.orders\n',
      })
    const bad = await produce(folder, '{"id":1}\n{"id":2}\n{"id":true}\n')
    expect(bad).toMatchObject({ code: 2, stdout: '2 records written to orders.shop.orders\n' })
    expect(bad.stderr).toContain('line 3: id (int8) holds true')
    await until(
      async () => (await status()).pipelines[0]!.tasks.every(task => task.lag_records === 0),
      'no lag',
    )
    const [pipeline] = (await status()).pipelines
    expect(pipeline).toMatchObject({ state: 'following', caught_up: true, log_records: 3_002 })
    expect(pipeline!.tasks[0]).toMatchObject({ name: 'orders/source', state: 'running', records: 3_002 })
    expect(documents(folder)).toHaveLength(3_000)
    expect((await folder.run(['delete', 'orders', '--yes'])).code).toBe(0)
    expect((await produce(folder, '{"id":1}')).code).toBe(1)
    hub.child.kill('SIGINT')
    expect((await hub.ended).code).toBe(0)
  }, 120_000)

  it('writes each row once over kill -9, when whoever was not answered sends again', async () => {
    using folder = newFolder()
    folder.write('p.yaml', PIPELINE)
    let hub = await started(folder)
    let next = 0
    let isOver = false
    const answered: number[] = []
    const send = async () => {
      while (!isOver) {
        const id = next++
        for (let isWritten = false; !isWritten; ) {
          const answer = await fetch(`${URL}/api/v1/topics/orders.shop.events`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', 'idempotency-key': `event ${id}` },
            body: `{"id":${id}}`,
          }).catch(() => null)
          isWritten = answer?.status === 200
          if (!isWritten) await new Promise(resolve => setTimeout(resolve, 20))
        }
        answered.push(id)
      }
    }
    const senders = Array.from({ length: 8 }, send)
    for (let kills = 0; kills < 3; kills++) {
      const before = answered.length
      await until(() => answered.length > before + 100, 'rows are answered')
      hub.child.kill('SIGKILL')
      await hub.ended
      hub = await started(folder)
    }
    isOver = true
    await Promise.all(senders)
    hub.child.kill('SIGINT')
    await hub.ended
    // A sink of its own reads the log from its start.
    folder.write('p.yaml', PIPELINE.replace('name: out, type: stdout', 'name: all, type: stdout'))
    const { stdout, code } = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(code).toBe(0)
    const events = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { value: { after: { id: number } } })
    expect(events.map(one => one.value.after.id).sort((a, b) => a - b)).toEqual(
      answered.sort((a, b) => a - b),
    )
  }, 240_000)
})
