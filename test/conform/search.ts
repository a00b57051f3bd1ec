/** What both search sinks show against a real server of each kind, beside the kit of sinks. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { Context, Sink, Writer } from '../../core/connector.ts'
import type { LogRecord } from '../../core/record.ts'
import { missingFor, type SearchServer, type SearchServerKind, startSearch } from '../servers/search.ts'
import { faultyCluster } from '../servers/search-faults.ts'
import { testContext } from './context.ts'
import { batchOf, KIT_TABLE, recordOf } from './kit-table.ts'
import { faultTests } from './search-faults.ts'
import { fenceTests } from './search-fence.ts'
import { typesTests, type Write } from './search-types.ts'
import { type Held, keyedSinkConformance } from './sink.ts'

/** Compiled: a process of its own. */
const FROZEN = fileURLToPath(new URL('../../dist/test/conform/frozen-writer.js', import.meta.url))

// biome-ignore lint/suspicious/noExplicitAny: what servers answer
type Any = Record<string, any>

/** Whatever a pipeline's file would hold, through the sink's own schema. */
export const openOn = (
  sink: Sink,
  server: Pick<SearchServer, 'url'>,
  options: object,
  context: Context,
): Promise<Writer> => sink.open(sink.config.parse({ url: server.url, ...options }) as never, context)

async function rowsOf(server: SearchServer, index: string): Promise<ReadonlyMap<string, Held>> {
  await server.request('POST', `/${index}/_refresh`)
  const { status, body } = await server.request('POST', `/${index}/_search`, { size: 10_000, version: true })
  if (status === 404) return new Map()
  const hits = (body as Any).hits.hits as Any[]
  return new Map(
    hits.map(({ _id, _version, _source: { _millrace, ...document } }) => {
      expect(_millrace.version, 'both say the same number').toBe(_version)
      return [_id as string, { document, version: _version as number, origin: _millrace.origin as string }]
    }),
  )
}

export function searchConformance(sink: Sink, kind: SearchServerKind): void {
  const missing = missingFor(kind)
  describe.skipIf(missing !== null)(`${kind}${missing === null ? '' : `: ${missing}`}`, () => {
    let server: SearchServer
    beforeAll(async () => {
      // How often it looks at its disks; it takes no less.
      server = await startSearch(kind, { settings: { 'cluster.info.update.interval': '10s' } })
    }, 300_000)
    afterAll(() => server?.[Symbol.asyncDispose]())

    let serial = 0
    const newIndex = () => `kit-${++serial}`
    keyedSinkConformance({
      name: kind,
      bad: good => ({ ...good, after: '{"id":5,"name":"x","nope":1}' }),
      async target() {
        const index = newIndex()
        return {
          open: context => openOn(sink, server, { index }, context),
          rows: () => rowsOf(server, index),
          async [Symbol.asyncDispose]() {
            await server.request('DELETE', `/${index}`)
          },
        }
      },
    })

    const writing = async (options: object, records: readonly LogRecord[], over: Partial<Context> = {}) => {
      await using writer = await openOn(sink, server, options, testContext(over))
      return await writer.write(batchOf(records))
    }
    typesTests(kind, () => server, writing, newIndex)
    optionTests(sink, () => server, writing, newIndex)
    pushBackTests(sink, () => server, newIndex)
    fenceTests({ sink, server: () => server, newIndex, rowsOf: index => rowsOf(server, index) })
    faultTests({ sink, server: () => server, newIndex, rowsOf: index => rowsOf(server, index) })
  })
}

function optionTests(sink: Sink, server: () => SearchServer, write: Write, newIndex: () => string): void {
  const records = [1, 2, 3].map(id => recordOf({ id, version: id }))
  const get = async (path: string) => (await server().request('GET', path)).body as Any

  it('makes the index with its settings and aliases; adds columns that come, and says what it cannot change', async () => {
    const index = newIndex()
    const options = { index, aliases: [`${index}-now`], settings: { refresh_interval: '7s' } }
    await write(options, records)
    const made = (await get(`/${index}`))[index]
    expect(made.settings.index.refresh_interval).toBe('7s')
    expect(made.settings.index.gc_deletes).toBe('10m')
    expect(Object.keys(made.aliases)).toEqual([`${index}-now`, `${index}.MILLRACE.test.sink.0.1`])
    const wider = { ...KIT_TABLE, columns: [...KIT_TABLE.columns, { name: 'more', type: 'int4' }] }
    const context = testContext()
    const planned = await sink.plan!(
      sink.config.parse({ url: server().url, ...options }) as never,
      [{ table: wider, topic: 'kit.test.kit' }],
      context,
    )
    expect(planned).toMatchObject([{ name: index, tables: ['test.kit'], exists: true }])
    expect(planned[0]!.differences).toEqual([expect.stringContaining('the field more will be added')])
    await write(options, [{ ...recordOf({ id: 9, version: 9, row: '{"id":9,"more":17}' }), table: wider }])
    expect((await get(`/${index}/_doc/9`))._source.more).toBe(17)
    // Widened, or of another scalar type: the document is taken, whatever its field makes of the value.
    const scalar = { ...KIT_TABLE, columns: [{ name: 'id', type: 'text' }] }
    const named = { ...recordOf({ id: 11, version: 11, row: '{"id":"eleven"}' }), table: scalar }
    expect(await write(options, [named])).toEqual([])
    expect((await get(`/${index}/_doc/11`))._source.id).toBe('eleven')
    const json = { ...KIT_TABLE, columns: [{ name: 'id', type: 'jsonb' }] }
    await expect(write(options, [{ ...records[0]!, table: json }])).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringMatching(/id is long there, and would be flat/),
    })
  })

  it('takes id and routing as templates, and deletes what it routed', async () => {
    const index = newIndex()
    const options = {
      index,
      id: '${schema}.${table}.${key}',
      routing: 'r${id}',
      settings: { number_of_shards: 5 },
    }
    await write(options, records)
    expect(await get(`/${index}/_doc/test.kit.2?routing=r2`)).toMatchObject({ found: true, _routing: 'r2' })
    await write(options, [recordOf({ op: 'd', id: 2, version: 20 })])
    expect(await get(`/${index}/_doc/test.kit.2?routing=r2`)).toMatchObject({ found: false })
    await write(options, [recordOf({ op: 'sweep', version: 30, below: 30 })])
    await server().request('POST', `/${index}/_refresh`)
    expect((await get(`/${index}/_count`)).count).toBe(0)
  })

  it('sets aside an id that is too long, and goes on', async () => {
    const index = newIndex()
    const long = {
      ...recordOf({ id: 7, version: 7 }),
      table: { ...KIT_TABLE, key: ['name'] },
      key: `{"name":"${'x'.repeat(600)}"}`,
    }
    const rejected = await write({ index }, [records[0]!, long, records[1]!])
    expect(rejected.map(one => one.record)).toEqual([long])
    expect(rejected[0]!.error).toMatchObject({ kind: 'data', message: expect.stringContaining('600 bytes') })
    await server().request('POST', `/${index}/_refresh`)
    expect((await get(`/${index}/_count`)).count).toBe(2)
  })

  it('says its highest version over all indexes of the pipeline, and searches them (V3)', async () => {
    const name = newIndex()
    const options = { index: `${name}-\${table}` }
    await using writer = await openOn(sink, server(), options, testContext({ pipeline: 'kit' }))
    await writer.write(
      batchOf([recordOf({ id: 1, name: 'amber lamp (old)', version: 1_763_000_000_000_123 })]),
    )
    expect(await writer.highest?.()).toBe(1_763_000_000_000_123)
    await using other = await openOn(sink, server(), options, testContext({ pipeline: 'another' }))
    expect(await other.highest?.()).toBe(0)
    // What others keep under such names is theirs: no refresh of it, no search.
    await server().request('PUT', `/${name}-theirs`)
    await using cluster = await faultyCluster(server().url)
    await using looking = await openOn(sink, cluster, options, testContext({ pipeline: 'kit' }))
    expect(await looking.highest?.()).toBe(1_763_000_000_000_123)
    const touched = cluster.seen.map(({ path }) => path).filter(path => /_refresh|_search/.test(path))
    expect(touched.length).toBeGreaterThan(0)
    for (const path of touched) expect(path).toMatch(new RegExp(`^/${name}-kit/`))
    const config = sink.config.parse({ url: server().url, ...options }) as never
    expect(await sink.search!(config, 'amb (old', 10)).toMatchObject({
      total: 1,
      hits: [
        {
          id: '1',
          table: `${name}-kit`,
          document: { name: 'amber lamp (old)' },
          version: 1_763_000_000_000_123,
        },
      ],
    })
    expect(await sink.search!(config, 'nothing', 10)).toEqual({ total: 0, hits: [] })
  })
}

function pushBackTests(sink: Sink, server: () => SearchServer, newIndex: () => string): void {
  const settings = (index: string, of: Any) => server().request('PUT', `/${index}/_settings`, of)

  it('a cluster that lets nobody write (flood stage) is waited for; what came meanwhile is there when it does', async () => {
    const index = newIndex()
    await using writer = await openOn(sink, server(), { index }, testContext())
    await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
    await settings(index, { 'index.blocks.read_only_allow_delete': true })
    let isWritten = false
    const writing = writer.write(batchOf([2, 3].map(id => recordOf({ id, version: id })))).then(rejected => {
      isWritten = true
      return rejected
    })
    await new Promise(resolve => setTimeout(resolve, 1_500))
    expect(isWritten).toBe(false)
    await settings(index, { 'index.blocks.read_only_allow_delete': null })
    expect(await writing).toEqual([])
    expect([...(await rowsOf(server(), index)).keys()].sort()).toEqual(['1', '2', '3'])
  })

  it('a disk above its flood-stage watermark is waited for, until there is room again', async () => {
    const index = newIndex()
    await using writer = await openOn(sink, server(), { index }, testContext())
    await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
    const disk = 'cluster.routing.allocation.disk'
    const watermarks = async (isOn: boolean | null, free: string | null) => {
      const names = ['low', 'high', 'flood_stage'].map(name => [`${disk}.watermark.${name}`, free])
      const transient = {
        [`${disk}.threshold_enabled`]: isOn,
        'cluster.info.update.interval': isOn && '10s', // how often it looks; the least there is
        [`${disk}.reroute_interval`]: isOn && '1s', // how soon it acts again
        ...Object.fromEntries(names),
      }
      expect((await server().request('PUT', '/_cluster/settings', { transient })).status).toBe(200)
    }
    const isBlocked = async () => {
      const { body } = await server().request('GET', `/${index}/_settings?flat_settings=true`)
      return (body as Any)[index].settings['index.blocks.read_only_allow_delete'] === 'true'
    }
    onTestFinished(() => watermarks(null, null))
    await watermarks(true, '900tb')
    await expect.poll(isBlocked, { timeout: 60_000 }).toBe(true)
    // OpenSearch lets nobody make an index, either, when the disks of all nodes are above the high watermark.
    const mayCreate = async () => {
      const { body } = await server().request('GET', '/_cluster/settings?flat_settings=true')
      const { persistent, transient } = body as Any
      return ![persistent, transient].some(of => of['cluster.blocks.create_index'] === 'true')
    }
    if (sink.name === 'opensearch') await expect.poll(mayCreate, { timeout: 60_000 }).toBe(false)
    const newer = newIndex()
    await using another = await openOn(sink, server(), { index: newer }, testContext())
    // As the task does: what was given up for now is written again.
    const untilWritten = async (to: typeof writer, batch: ReturnType<typeof batchOf>) => {
      for (;;)
        try {
          return await to.write(batch)
        } catch (error) {
          expect(error).toMatchObject({
            kind: 'unavailable',
            hint: expect.stringContaining('watermark'),
          })
          await new Promise(resolve => setTimeout(resolve, 100))
        }
    }
    const writing = Promise.all([
      untilWritten(
        writer,
        batchOf([recordOf({ id: 1, version: 2, op: 'd' }), recordOf({ id: 2, version: 3 })]),
      ),
      untilWritten(another, batchOf([recordOf({ id: 3, version: 4 })])),
    ])
    await new Promise(resolve => setTimeout(resolve, 1_000))
    expect([...(await rowsOf(server(), index)).keys()]).toEqual(['1'])
    await watermarks(true, '1b')
    expect(await writing).toEqual([[], []])
    expect([...(await rowsOf(server(), index)).keys()]).toEqual(['2'])
    expect([...(await rowsOf(server(), newer)).keys()]).toEqual(['3'])
  })

  it('a cluster that is frozen, killed and started again loses nothing', async () => {
    const index = newIndex()
    const writer = await openOn(
      sink,
      server(),
      { index, bulk: { actions: 10, timeout_ms: 500 } },
      testContext(),
    )
    await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
    server().freeze()
    const writing = writer.write(
      batchOf([...Array(100).keys()].map(id => recordOf({ id: id + 2, version: id + 2 }))),
    )
    await new Promise(resolve => setTimeout(resolve, 1_200))
    server().thaw()
    expect(await writing).toEqual([])
    await server().kill9()
    const again = writer.write(
      batchOf([recordOf({ op: 'd', id: 1, version: 900 }), recordOf({ id: 500, version: 901 })]),
    )
    await new Promise(resolve => setTimeout(resolve, 300))
    await server().start()
    const outcome = await again.catch(error => error as { kind?: string })
    // It may have given up while the cluster was away; the task then opens anew and writes the batch again.
    if (!Array.isArray(outcome)) {
      expect(outcome).toMatchObject({ kind: 'unavailable' })
      await writer.write(
        batchOf([recordOf({ op: 'd', id: 1, version: 900 }), recordOf({ id: 500, version: 901 })]),
      )
    }
    await writer[Symbol.asyncDispose]()
    await expect.poll(async () => (await rowsOf(server(), index)).size, { timeout: 30_000 }).toBe(101)
  })

  it('two writers at once: whatever their order, the newest stands (L4)', async () => {
    const index = newIndex()
    const open = () => openOn(sink, server(), { index, bulk: { actions: 7 } }, testContext())
    await using one = await open()
    await using two = await open()
    const records = (name: string, from: number) =>
      batchOf(
        [...Array(200).keys()].map(id =>
          recordOf({ id, name, version: from + id, op: id % 10 === 0 ? 'd' : 'u' }),
        ),
      )
    await Promise.all([
      (async () => {
        await one.write(records('old', 1_000))
        await one.write(records('newer', 3_000))
      })(),
      (async () => {
        await two.write(records('newest', 5_000))
        await two.write(records('old', 1_000))
      })(),
    ])
    const rows = await rowsOf(server(), index)
    expect(rows.size).toBe(180)
    expect(new Set([...rows.values()].map(row => (row.document as Any).name))).toEqual(new Set(['newest']))
  })

  it('a worker that was frozen until the cluster has forgotten its deletes changes nothing when it thaws (P4, L1)', async () => {
    const index = newIndex()
    const worker = spawn(process.execPath, [FROZEN, sink.name, server().url, index], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    worker.stdout.on('data', text => (said += text))
    const ended = new Promise(resolve => worker.once('exit', resolve))
    await expect.poll(() => said, { timeout: 30_000 }).toContain('writing')
    await expect
      .poll(async () => (await rowsOf(server(), index)).size, { timeout: 30_000 })
      .toBeGreaterThan(3)
    process.kill(worker.pid!, 'SIGSTOP')
    // The next owner deletes every row that the worker may be about to write.
    await using owner = await openOn(sink, server(), { index }, testContext({ epoch: 2 }))
    const deletes = Array.from({ length: 20_000 }, (_, i) =>
      recordOf({ op: 'd', id: i + 1, version: 100_000 + i }),
    )
    expect(await owner.write(batchOf(deletes))).toEqual([])
    await new Promise(resolve => setTimeout(resolve, 5_000)) // its lease, and gc_deletes (1 s)
    await server().request('POST', `/${index}/_flush?force=true`)
    await server().request('POST', `/${index}/_forcemerge`)
    expect((await rowsOf(server(), index)).size).toBe(0)
    process.kill(worker.pid!, 'SIGCONT')
    await ended
    // By its lease before a request, or by the cluster for one that was on its way.
    expect(said).toMatch(/^writing\nfenced\n$/)
    expect((await rowsOf(server(), index)).size, 'nothing came back').toBe(0)
  })
}
