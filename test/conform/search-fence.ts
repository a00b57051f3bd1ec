/** A worker that lost its task writes no more, whatever it had on its way (L1); and a removed index is not made by accident. */
import { expect, it } from 'vitest'
import { Fenced } from '../../core/errors.ts'
import { faultyCluster } from '../servers/search-faults.ts'
import { testContext } from './context.ts'
import { batchOf, recordOf } from './kit-table.ts'
import type { ClusterParts } from './search-faults.ts'

export function fenceTests({ sink, server, newIndex, rowsOf }: ClusterParts): void {
  const open = (options: object, epoch: number) =>
    sink.open(
      sink.config.parse({ url: server().url, settings: { gc_deletes: '1s' }, ...options }) as never,
      testContext({ epoch }),
    )
  const names = async () => {
    const { body } = await server().request('GET', '/_cat/indices?format=json&h=index&expand_wildcards=all')
    return (body as { index: string }[]).map(one => one.index)
  }

  it('a request that was on its way when a newer owner came, and arrives when deletes are forgotten, is not done (L1, P4)', async () => {
    const index = newIndex()
    await using cluster = await faultyCluster(server().url)
    let release = () => {}
    const isReleased = new Promise<void>(resolve => (release = resolve))
    cluster.script = n => (n === 1 ? { kind: 'held', until: isReleased } : null)
    const old = await open({ index, url: cluster.url }, 1)
    await old.write(batchOf([recordOf({ id: 1, name: 'old', version: 10 })]))
    const writing = old
      .write(
        batchOf(
          [2, 3, 4].map(id => recordOf({ id, name: 'old', version: 10 + id, op: id === 4 ? 'd' : 'c' })),
        ),
      )
      .catch(error => error)
    await expect.poll(() => cluster.seen.filter(one => /_bulk/.test(one.path)).length).toBe(2)
    await using owner = await open({ index }, 2)
    const deletes = [1, 2, 3].map(id => recordOf({ op: 'd', id, version: 100 + id }))
    expect(await owner.write(batchOf(deletes))).toEqual([])
    await new Promise(resolve => setTimeout(resolve, 2_500))
    await server().request('POST', `/${index}/_flush?force=true`)
    await server().request('POST', `/${index}/_forcemerge`)
    release()
    expect(await writing).toBeInstanceOf(Fenced)
    expect([...(await rowsOf(index)).keys()]).toEqual([])
    expect((await names()).filter(name => name.includes('MILLRACE'))).toEqual([])
    await old[Symbol.asyncDispose]()
    // An owner whose epochs began anew (its directory was lost) takes over as well: the lease decides, not the number.
    await using again = await open({ index }, 1)
    expect(await again.write(batchOf([recordOf({ id: 9, version: 200 })]))).toEqual([])
    expect(
      await owner.write(batchOf([recordOf({ id: 9, version: 300 })])).catch(error => error),
    ).toBeInstanceOf(Fenced)
    expect([...(await rowsOf(index)).keys()]).toEqual(['9'])
    const config = sink.config.parse({ url: server().url, index }) as never
    const aliases = async () => JSON.stringify((await server().request('GET', `/${index}/_alias`)).body)
    expect(await aliases()).toContain('MILLRACE')
    for (const _ of ['once', 'again']) await sink.forget!(config, ['test/sink/0'], testContext())
    expect(await aliases(), 'a pipeline that is deleted leaves none').not.toContain('MILLRACE')
    const said: string[] = []
    const warn = (_: unknown, message: string) => said.push(message)
    const away = sink.config.parse({ url: 'http://127.0.0.1:1' }) as never
    await sink.forget!(
      away,
      ['test/sink/0'],
      testContext({ log: { debug() {}, info() {}, warn, error() {} } }),
    )
    expect(said, 'a cluster that is gone keeps no pipeline').toEqual([expect.stringContaining('test/sink/0')])
  })

  it('an index that somebody removes is not made by what is on its way; the next owner makes it as declared', async () => {
    const index = newIndex()
    const writer = await open({ index }, 1)
    await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
    await server().request('DELETE', `/${index}`)
    for (const op of ['c', 'd'] as const)
      await expect(writer.write(batchOf([recordOf({ id: 2, version: 2, op })]))).rejects.toMatchObject({
        kind: 'unavailable',
        message: expect.stringContaining(`index "${index}" was removed while it is written`),
      })
    expect((await names()).filter(name => name.startsWith(index))).toEqual([])
    await writer[Symbol.asyncDispose]()
    await using next = await open({ index }, 2)
    await next.write(batchOf([recordOf({ id: 2, version: 2 })]))
    const { body } = await server().request('GET', `/${index}/_mapping`)
    expect(body).toMatchObject({ [index]: { mappings: { dynamic: 'strict' } } })
  })

  it('writes to an index that is named by an alias, and where aliases may not be made says what that means', async () => {
    const index = newIndex()
    await server().request('PUT', `/${index}-1`, { aliases: { [index]: {} } })
    await using writer = await open({ index }, 1)
    expect(await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))).toEqual([])
    expect([...(await rowsOf(`${index}-1`)).keys()]).toEqual(['1'])

    await using cluster = await faultyCluster(server().url)
    cluster.forbid = ({ path }) => path.startsWith('/_aliases')
    const said: string[] = []
    const warn = (_: unknown, message: string) => said.push(message)
    const context = testContext({ epoch: 2, log: { debug() {}, info() {}, warn, error() {} } })
    const options = sink.config.parse({ url: cluster.url, index: `${index}-2` }) as never
    await using without = await sink.open(options, context)
    expect(await without.write(batchOf([recordOf({ id: 1, version: 1 })]))).toEqual([])
    expect(said).toEqual([expect.stringContaining(`\`manage\` on ${index}-2*`)])
    expect((await rowsOf(`${index}-2`)).size).toBe(1)
  })
}
