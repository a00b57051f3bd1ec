/** Another reader of Avro than the library that we write with: fastavro, a Python package, brought once per user. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { CACHE, isOnPath, once, run } from './install.ts'

const VERSION = '1.12.1'

/** Why this machine cannot have it (null: it can). */
export const missingForFastavro = (): string | null => (isOnPath('python3') ? null : 'fastavro needs python3')

/** Times as µs since 1970, dates and UUIDs as their texts, bytes as base64, decimals with all digits. */
const PROGRAM = `
import base64, datetime, decimal, json, sys, uuid
import fastavro
EPOCH = datetime.datetime(1970, 1, 1)
def plain(value):
    if isinstance(value, datetime.datetime):
        aware = value.tzinfo is not None
        return str((value.replace(tzinfo=None) - EPOCH) // datetime.timedelta(microseconds=1)) + ('Z' if aware else '')
    if isinstance(value, datetime.date): return value.isoformat()
    if isinstance(value, decimal.Decimal): return format(value, 'f')
    if isinstance(value, bytes): return base64.b64encode(value).decode()
    if isinstance(value, uuid.UUID): return str(value)
    if isinstance(value, bool): return 'true' if value else 'false'
    if isinstance(value, float): return {'nan': 'NaN', 'inf': 'Infinity', '-inf': '-Infinity'}.get(repr(value), repr(value))
    return value if value is None or isinstance(value, str) else str(value)
with open(sys.argv[1], 'rb') as file:
    reader = fastavro.reader(file)
    print(json.dumps({'schema': reader.writer_schema, 'rows': [{name: plain(value) for name, value in row.items()} for row in reader]}))
`

export interface AvroFile {
  readonly schema: {
    readonly name: string
    readonly fields: readonly { readonly name: string; readonly type: unknown }[]
  }
  readonly rows: readonly { readonly [name: string]: string | null }[]
}

export async function readAvro(path: string): Promise<AvroFile> {
  const folder = await once(join(CACHE, `fastavro-${VERSION}`), into =>
    run('python3', [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--no-deps',
      '--disable-pip-version-check',
      '--target',
      into,
      `fastavro==${VERSION}`,
    ]),
  )
  const { stdout, stderr, status } = spawnSync('python3', ['-c', PROGRAM, path], {
    env: { ...process.env, PYTHONPATH: folder },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (status !== 0) throw new Error(`fastavro: ${stderr}`)
  return JSON.parse(stdout) as AvroFile
}
