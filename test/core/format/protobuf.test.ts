/** Numbers of Protobuf fields over shapes that come and go, as a task that is begun again meets them. */
import { describe, expect, it } from 'vitest'
import { typedColumns } from '../../../core/format/columns.ts'
import { protobufMessage } from '../../../core/format/protobuf.ts'
import { registryOf } from '../../../core/format/registry.ts'

const shape = (...names: string[]) =>
  typedColumns(
    names.map(one => {
      const [name, type = 'text'] = one.split(':')
      return { name: name!, type }
    }),
    'string',
  )

/** Each shape is met when the registry has what came of the one before. */
function met(shapes: readonly ReturnType<typeof shape>[]): string[] {
  const schemas: string[] = []
  for (const columns of shapes) schemas.push(protobufMessage('t', columns, schemas.at(-1) ?? null).schema)
  return schemas
}

const numbersOf = (schema: string): Record<string, number> =>
  Object.fromEntries(
    [...schema.matchAll(/ (\w+) = (\d+);/g)].map(([, name, number]) => [name!, Number(number)]),
  )

describe('numbers of Protobuf fields', () => {
  const before = shape('id:int8', 'a', 'b')
  const added = shape('id:int8', 'a', 'b', 'd')
  const dropped = shape('id:int8', 'b', 'd')

  it('stay when a task goes back to records of a shape that has the column not yet, and on again', () => {
    const schemas = met([before, added, before, added, dropped, added, before])
    expect(numbersOf(schemas[0]!)).toEqual({ id: 1, a: 2, b: 3 })
    for (const schema of schemas.slice(1)) expect(numbersOf(schema)).toEqual({ id: 1, a: 2, b: 3, d: 4 })
    expect(new Set(schemas.slice(1)).size, 'and so the registry gets no further schema').toBe(1)
  })

  it('of what a table has lost are given to nothing else, nor are those that were reserved', () => {
    const [, last] = met([before, shape('id:int8', 'e', 'b')])
    expect(numbersOf(last!)).toEqual({ id: 1, a: 2, b: 3, e: 4 })
    const old = 'syntax = "proto3";\nmessage t {\n  reserved 2, 5;\n  optional int64 id = 1;\n}\n'
    const { schema } = protobufMessage('t', shape('id:int8', 'a'), old)
    expect(numbersOf(schema)).toEqual({ id: 1, a: 6 })
    expect(schema).toContain('reserved 2, 5;')
  })

  it('are refused to a column of another type', () => {
    expect(() => met([before, shape('id:int8', 'a:int4', 'b')])).toThrow(
      'the field a of the Protobuf message t is string',
    )
  })

  it('come with the values of their columns', () => {
    const { schema, encode } = protobufMessage('t', dropped, met([before, added]).at(-1)!)
    expect(numbersOf(schema).d).toBe(4)
    expect(encode([7n, 'B', 'D'], Buffer.alloc(0)).toString('hex')).toBe('08071a01422201' + '44')
  })
})

it('a registry’s URL may hold user and password, which are sent and never told', async () => {
  const { createServer } = await import('node:http')
  const seen: (string | undefined)[] = []
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization)
    response.writeHead(404).end('{"message":"none"}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  try {
    const registry = (url: string) => registryOf({ url, subject: 'topic', register: true })
    expect(await registry(`http://bob:p%40ss@127.0.0.1:${port}/x`).latest('s')).toBeNull()
    expect(seen).toEqual([`Basic ${Buffer.from('bob:p@ss').toString('base64')}`])
    const error = await registry('http://bob:p%40ss@127.0.0.1:1')
      .latest('s')
      .catch(thrown => thrown as Error)
    expect((error as Error).message).toContain('127.0.0.1:1')
    expect((error as Error).message).not.toMatch(/p%40ss|p@ss/)
  } finally {
    server.close()
  }
})
