/** A disk that is full under the file sink. */
import { expect, it } from 'vitest'
import type { ConnectorError } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { missingForSmallDisk, mountSmallDisk } from '../../servers/small-disk.ts'
import { EACH, fileTarget, linesOf } from '../object/objects.ts'

const missing = missingForSmallDisk()
it.skipIf(missing !== null)(
  missing ?? 'a full disk: unavailable, with what to do; with room the next owner goes on, each record once',
  async () => {
    using disk = mountSmallDisk(8)
    await using target = fileTarget(disk.path)
    const batchFrom = (from: number) =>
      batchOf(
        Array.from({ length: 5 }, (_, i) =>
          recordOf({ id: from + i, version: from + i, name: 'n'.repeat(20_000) }),
        ),
      )
    const first = await target.open(EACH, testContext())
    expect(await first.write(batchFrom(1))).toEqual([])
    disk.fill()
    const failure = await first.write(batchFrom(6)).catch(error => error as ConnectorError)
    expect(failure).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('Make room') })
    await first[Symbol.asyncDispose]()
    disk.makeRoom()
    await using second = await target.open(EACH, testContext({ epoch: 2 }))
    expect(await second.position!()).toMatchObject({ next: { 'kit.test.kit': 6 } })
    expect(await second.write(batchFrom(6))).toEqual([])
    const ids = linesOf(await target.objects()).map(line => line.id)
    expect(ids.sort((a, b) => a! - b!)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  },
)
