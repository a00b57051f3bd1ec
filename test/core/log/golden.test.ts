/**
 * Files of every format and codec there ever was, which stay readable for ever. `UPDATE=1` writes those of the present format anew
 * (zstd only where Node.js has it); what an older format left is never written again.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { COMPRESSIONS, type Compression, missingCompression } from '../../../core/log/codec.ts'
import {
  blocksAt,
  decodeFrame,
  decodeHeader,
  encodeFrame,
  FORMAT,
  type FrameMeta,
  type SegmentState,
} from '../../../core/log/journal.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import type { SimDisk } from '../../sim/disk.ts'
import { all, change, newDisk, openOn, segmentPath, source } from './on-disk.ts'

const path = (name: string) => fileURLToPath(new URL(`../../golden/journal/${name}`, import.meta.url))
/** The log's id is random: it is fixed before facts are compared. */
const ID = '00000000-0000-4000-8000-000000000000'
const sweep = change(0, { op: 'sweep', key: '{"sweep":"test.kit"}', after: null, below: -1 })

interface Frame {
  readonly bytes: Buffer
  readonly meta: FrameMeta
}

function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = []
  for (let at = decodeHeader(bytes, 'golden')!.size; at < bytes.length; ) {
    const frame = bytes.subarray(at, at + 16 + bytes.readUInt32LE(at + 4))
    frames.push({ bytes: frame, meta: decodeFrame(frame)! })
    at += frame.length
  }
  return frames
}

const facts = (bytes: Buffer) => ({
  header: { ...decodeHeader(bytes, 'golden')!.state, id: ID } satisfies SegmentState,
  frames: framesOf(bytes).map(one => one.meta),
})

const golden = (name: string): Buffer =>
  Buffer.from(readFileSync(path(`${name}.hex`), 'utf8').replaceAll('\n', ''), 'hex')

function written(name: string, bytes: Buffer): void {
  mkdirSync(dirname(path('x')), { recursive: true })
  writeFileSync(path(`${name}.hex`), `${bytes.toString('hex').replace(/.{1,96}/g, '$&\n')}`)
  writeFileSync(path(`${name}.json`), `${JSON.stringify(facts(bytes), null, 1)}\n`)
}

async function segment(
  compression: Compression,
  writes: readonly (readonly ChangeRecord[])[],
): Promise<Buffer> {
  const disk = newDisk()
  await using log = await openOn(disk, { compression })
  const writer = await log.writer(source(), 0)
  let next = 0
  for (const records of writes) {
    next += records.length
    await writer.write({ records, offset: { next } })
  }
  return disk.content(segmentPath(1))
}

/** A disk whose one segment holds these bytes. */
async function diskOf(bytes: Buffer): Promise<SimDisk> {
  const disk = newDisk()
  const mounted = disk.mount(async () => {})
  await mounted.mkdir('/log')
  const file = await mounted.open(segmentPath(1), 'create')
  await file.write(bytes, 0)
  await file.sync()
  await mounted.syncDirectory('/log')
  return disk
}

async function records(bytes: Buffer) {
  await using log = await openOn(await diskOf(bytes))
  return await all(log)
}

const small = [[change(1), change(2, { op: 'd', after: null })], [sweep]]
const many = [Array.from({ length: 40 }, (_, id) => change(id)), [sweep]]
const told = (list: readonly ChangeRecord[]) => list.map(({ op, key, after }) => ({ op, key, after }))

describe('golden files', () => {
  it('format 1: its meaning is what it was, and the frames of today are the same bytes', async () => {
    const bytes = golden('segment-1')
    expect(decodeHeader(bytes, 'x')?.format).toBe(1)
    expect(facts(bytes)).toEqual(JSON.parse(readFileSync(path('segment-1.json'), 'utf8')))
    expect(told(await records(bytes))).toEqual(told(small.flat()))
    const today = await segment('none', small)
    expect(facts(today)).toEqual(facts(bytes))
    expect(framesOf(today).map(one => one.bytes.toString('hex'))).toEqual(
      framesOf(bytes).map(one => one.bytes.toString('hex')),
    )
  })

  for (const compression of COMPRESSIONS)
    it(`format ${FORMAT}, ${compression}: can be read`, async () => {
      const name = `segment-${FORMAT}-${compression}`
      const missing = missingCompression(compression)
      if (!missing && (process.env.UPDATE || !existsSync(path(`${name}.hex`))))
        written(name, await segment(compression, many))
      const bytes = golden(name)
      expect(decodeHeader(bytes, 'x')?.format).toBe(FORMAT)
      expect(facts(bytes)).toEqual(JSON.parse(readFileSync(path(`${name}.json`), 'utf8')))
      const codecs = framesOf(bytes).flatMap(one => one.meta.blocks.map(block => block[7]))
      expect(codecs[0]).toBe({ none: 0, lz4: 1, gzip: 2, zstd: 3, snappy: 4 }[compression])
      if (!missing) expect(told(await records(bytes))).toEqual(told(many.flat()))
      else {
        await expect(records(bytes), 'this Node.js has no zstd').rejects.toMatchObject({
          kind: 'config',
          message: expect.stringContaining('Node.js 22.15'),
        })
        await expect(segment(compression, many)).rejects.toMatchObject({ kind: 'config' })
      }
    })
})

describe('formats', () => {
  it('reads a segment of an older one, and writes into a new segment what that does not know (J6)', async () => {
    const disk = await diskOf(golden('segment-1'))
    for (let epoch = 2; epoch < 4; epoch++) {
      await using log = await openOn(disk, { compression: 'gzip' })
      const writer = await log.writer(source({ epoch }), 0)
      expect(await writer.position?.()).toEqual({ next: epoch + 1 })
      await writer.write({ records: many[0]!, offset: { next: epoch + 2 } })
      expect(told(await all(log))).toEqual(
        told([...small.flat(), ...many[0]!, ...(epoch === 3 ? many[0]! : [])]),
      )
    }
    expect(disk.content(segmentPath(1))).toEqual(golden('segment-1'))
    expect(decodeHeader(disk.content(segmentPath(2)), 'x')?.format).toBe(FORMAT)
    expect(() => disk.content(segmentPath(3)), 'one was enough').toThrow()
  })

  it('names a codec of a newer Millrace, and takes it for no damage', async () => {
    const bytes = await segment('none', small)
    const { size } = decodeHeader(bytes, 'x')!
    const frames = framesOf(bytes).map(({ bytes: frame, meta }) => {
      const blocks = meta.blocks.map(block => block.with(7, 9) as unknown as FrameMeta['blocks'][number])
      return encodeFrame({ ...meta, blocks }, [frame.subarray(blocksAt(frame))])
    })
    await expect(records(Buffer.concat([bytes.subarray(0, size), ...frames]))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringMatching(/written by a newer Millrace: it holds blocks of codec 9/),
      hint: expect.stringContaining('newer Millrace'),
    })
  })
})
