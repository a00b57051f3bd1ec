/** What of an object source needs no store: what counts as read, in which order, within which bounds; a store that contradicts itself. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { compareNames, doneByName, doneByTime } from '../../../connectors/object/done.ts'
import { look } from '../../../connectors/object/looking.ts'
import { openReader } from '../../../connectors/object/reader.ts'
import { sourceShared } from '../../../connectors/object/source-config.ts'
import type { Found, ReadableStore } from '../../../connectors/object/store.ts'
import { testContext } from '../../conform/context.ts'
import { randomOf } from '../../sim/random.ts'

const found = (name: string, modifiedMs = 0, version = 'v'): Found => ({ name, size: 1, modifiedMs, version })
const saved = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T

describe('read by name', () => {
  it('is what is not behind the last of its own folder, and stays so over JSON', () => {
    const done = doneByName(null)
    for (const name of ['b.jsonl', 't/p=0/2', 't/p=1/5']) done.add(found(name))
    const again = doneByName(saved(done.toJson()))
    const had = ['a.jsonl', 'b.jsonl', 't/p=0/1', 't/p=0/2', 't/p=1/4']
    const news = ['b.jsonl2', 't/0', 't/p=0/3', 't/p=0/x/1', 't/p=1/51', 't/p=2/0']
    for (const one of [done, again]) {
      expect(had.filter(name => !one.has(found(name)))).toEqual([])
      expect(news.filter(name => one.has(found(name)))).toEqual([])
    }
  })

  it('refuses more folders than an offset can hold', () => {
    const done = doneByName(null)
    const add = () => {
      for (let i = 0; i < 6_000; i++) done.add(found(`day=${i}/a`))
    }
    expect(add).toThrow('more than 5000 folders')
    expect(JSON.stringify(done.toJson()).length).toBeLessThan(200_000)
  })

  it('orders names as stores do, by their bytes', () => {
    const names = ['a', 'a.b', 'a/b', 'ab', 'ä', '\uff5e', '😀', '\ue000']
    const byBytes = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    expect([...names].sort(compareNames)).toEqual(byBytes)
    expect(byBytes.at(-1)).toBe('😀')
  })
})

describe('read by time', () => {
  it('is what was read in that version, or is older than the youngest by more than late_ms', () => {
    const done = doneByTime(null, 100)
    expect(done.has(found('old', -1e12))).toBe(false)
    done.add(found('a', 1_000))
    const again = doneByTime(saved(done.toJson()), 100)
    for (const one of [done, again]) {
      expect(one.has(found('a', 1_000))).toBe(true)
      expect(one.has(found('a', 1_005))).toBe(true) // only its folder entry was touched
      expect(one.has(found('a', 1_000, 'w'))).toBe(false)
      expect(one.has(found('b', 1_000))).toBe(false)
      expect(one.has(found('late', 900))).toBe(false)
      expect(one.has(found('too late', 899))).toBe(true)
    }
  })

  it('loses none that comes within late_ms, whatever the order, over restarts', () => {
    for (let seed = 0; seed < 30; seed++) {
      const random = randomOf(seed)
      // The time at which each is seen rises, its own is up to 100 before.
      const comes = Array.from({ length: 300 }, (_, i) => ({
        at: i * 5,
        object: found(`n${i}`, i * 5 - random.int(0, 100)),
      }))
      let done = doneByTime(null, 100)
      const read: string[] = []
      for (let now = 0; now < 1_600; now += random.int(1, 60)) {
        const there = comes.filter(one => one.at <= now).map(one => one.object)
        for (const object of there.filter(one => !done.has(one)).sort(done.compare)) {
          read.push(object.name)
          done.add(object)
          if (random.chance(0.2)) done = doneByTime(saved(done.toJson()), 100)
        }
      }
      expect(read.sort()).toEqual(comes.map(one => one.object.name).sort())
    }
  })

  it('remembers ten thousand, and all of the youngest time', () => {
    const done = doneByTime(null, 1e12)
    for (let i = 0; i < 25_000; i++) done.add(found(`n${i}`, i))
    expect(JSON.stringify(done.toJson()).length).toBeLessThan(300_000)
    expect(done.has(found('n24999', 24_999))).toBe(true)
    expect(done.has(found('new', 20_000))).toBe(false)
    expect(done.has(found('new', 100))).toBe(true)
    const same = doneByTime(null, 0)
    for (let i = 0; i < 12_000; i++) same.add(found(`n${i}`, 7))
    const again = doneByTime(saved(same.toJson()), 0)
    expect(Array.from({ length: 12_000 }, (_, i) => again.has(found(`n${i}`, 7))).includes(false)).toBe(false)
    expect(again.has(found('n12000', 7))).toBe(false)
  })
})

const storeOf = (objects: readonly Found[], over: Partial<ReadableStore> = {}): ReadableStore => ({
  name: 'store',
  async *list() {
    for (let at = 0; at < objects.length; at += 1_000) yield objects.slice(at, at + 1_000)
  },
  look: async name => objects.find(object => object.name === name) ?? null,
  range: async () => Buffer.from('\n'),
  async [Symbol.asyncDispose]() {},
  ...over,
})

describe('a look', () => {
  const looked = (objects: readonly Found[], order: 'name' | 'modified', done = doneByName(null)) =>
    look({
      store: storeOf(objects),
      done,
      options: { order, settle_ms: 100 },
      isWanted: () => true,
      nowMs: 1_000_000,
      youngestMs: null,
    })

  it('holds the first of a listing of any length', async () => {
    const random = randomOf(3)
    const objects = Array.from({ length: 45_000 }, (_, i) =>
      found(`n${String(i).padStart(6, '0')}`, random.int(0, 1e5)),
    )
    const byName = await looked(objects, 'name')
    expect(byName.isCut).toBe(true)
    expect(byName.ready.map(one => one.name)).toEqual(
      objects.slice(0, byName.ready.length).map(one => one.name),
    )
    const done = doneByTime(null, 1e9)
    const byTime = await looked(objects, 'modified', done)
    const sorted = [...objects].sort(done.compare)
    expect(byTime.ready.map(one => one.name)).toEqual(
      sorted.slice(0, byTime.ready.length).map(one => one.name),
    )
  })

  it('lets a name wait for a young one before it in its folder, by name', async () => {
    const objects = [found('a/1'), found('a/2', 999_950), found('a/3'), found('b/1')]
    const byName = await looked(objects, 'name')
    expect(byName.ready.map(one => one.name)).toEqual(['a/1', 'b/1'])
    expect([...byName.waiting]).toEqual(['a/2', 'a/3'])
    const byTime = await looked(objects, 'modified', doneByTime(null, 0))
    expect(byTime.ready.map(one => one.name)).toEqual(['a/1', 'a/3', 'b/1'])
  })
})

it('halts at a store that lists an object as another than it gives', async () => {
  const store = storeOf([found('a.jsonl')], { range: async () => null })
  const options = z.strictObject(sourceShared).parse({ follow_ms: 10, settle_ms: 0 })
  const reader = openReader({ connector: 'file', holder: 'files', store, options }, null, testContext())
  const read = async () => {
    for await (const _ of reader);
  }
  await expect(read()).rejects.toMatchObject({
    kind: 'config',
    message: expect.stringContaining('a.jsonl as another'),
  })
})
