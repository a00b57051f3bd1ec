/** What the tests of the object sinks have in common: places to write to, and what stands there, read without our code. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { file } from '../../../connectors/file/sink.ts'
import type { Context, Sink, Writer } from '../../../core/connector.ts'
import type { Held, SinkTarget } from '../../conform/sink.ts'

export interface Line {
  readonly id?: number
  readonly [name: string]: unknown
}

/** Name of each object without manifests → its bytes. */
export type Objects = ReadonlyMap<string, Buffer>

export interface ObjectTarget extends AsyncDisposable {
  readonly sink: Sink
  /** The options of the place. */
  readonly place: object
  open(options: object, context: Context): Promise<Writer>
  objects(): Promise<Objects>
  /** Names of all manifests. */
  manifests(): Promise<readonly string[]>
}

/** Where syncing costs nothing, if there is such a place. */
const FOLDER = process.platform === 'linux' ? '/dev/shm' : tmpdir()

export function fileTarget(folder = FOLDER): ObjectTarget {
  const directory = mkdtempSync(join(folder, 'millrace-file-'))
  const all = () =>
    readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter(name => statSync(join(directory, name)).isFile())
      .map(name => relative(directory, join(directory, name)))
      .sort()
  return {
    sink: file,
    place: { directory },
    open: (options, context) => file.open(file.config.parse({ directory, ...options }) as never, context),
    objects: async () =>
      new Map(
        all()
          .filter(name => !name.startsWith('_millrace/'))
          .map(name => [name, readFileSync(join(directory, name))]),
      ),
    manifests: async () => all().filter(name => name.startsWith('_millrace/')),
    async [Symbol.asyncDispose]() {
      rmSync(directory, { recursive: true })
    },
  }
}

/** JSON Lines, in the order of the names; gzipped or not. */
export const linesOf = (objects: Objects): Line[] =>
  [...objects].flatMap(([name, bytes]) =>
    String(name.endsWith('.gz') ? gunzipSync(bytes) : bytes)
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as Line),
  )

/** Flushes at each write. */
export const EACH = { rotate: { idle_ms: 0 }, metadata: ['op', 'version', 'topic', 'partition', 'offset'] }

export const kitTarget = (target: ObjectTarget): SinkTarget => ({
  open: context => target.open(EACH, context),
  async rows() {
    const rows = new Map<string, Held>()
    for (const { id, _version, _topic, _partition, ...rest } of linesOf(await target.objects()))
      rows.set(String(id), {
        document: rest,
        version: _version as number,
        origin: `${_topic}/${_partition}`,
      })
    return rows
  },
  [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
})
