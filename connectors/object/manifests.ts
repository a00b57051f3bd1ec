/**
 * What stands in the store of a task: manifests `_millrace/<task>/<20 digits>.json`, made by conditional create only, one number after
 * the other. Who has created n + 1 owns the task; everybody else meets it at his next create, and is fenced.
 *
 *            ┌──────────────────────────── CLAIM n+1: epoch, position and what was announced, as in n ◀── a new owner, from any state
 *            ▼
 *   ┌▶ settled ──gather──▶ settled ──ANNOUNCE n+1: position as before, and the objects: names, offsets, records──▶ announced
 *   │                                                                                                               │ PUT each object,
 *   │                                                                                                               ▼ if it is not there
 *   └──────────────────────────────────── COMMIT n+1: position behind the objects, nothing announced ────────────── all there
 *
 * Objects tile each topic-partition: those of one flush hold exactly the records between the position and the `end` that ANNOUNCE names,
 * each named by its first offset. Rotation may look at a clock, for it only chooses `end`, which is read from the store afterwards.
 *
 *   crash before ANNOUNCE       nothing of the flush is in the store: the records come again, and may be cut elsewhere
 *   crash before or in the PUTs the next owner finds what was announced, reads from the position on, and makes exactly those objects; one
 *                               that is there already was made of the same records, and is left as it is
 *   crash before COMMIT         the same; all are there, and nothing is written but the manifest
 *   zombie before ANNOUNCE      its n + 1 is the claim of the next owner: fenced, with nothing written
 *   zombie before a PUT         what it writes was announced by it in a manifest that the next owner has read before anything else: the same
 *                               object under the same name, whoever comes first
 *   zombie before COMMIT        fenced
 *   an answer that was lost     of a create: the same bytes stand there, and they name the epoch, which is nobody else's; of a PUT: it exists
 *
 * Old manifests are removed, the newest two are not. So a zombie might create a number that was there and is gone: after each create we
 * look for a higher one. The highest number never falls, hence who sees none was the first to create his.
 */
import { assertLease, type Context } from '../../core/connector.ts'
import { asConnectorError, ConnectorError, Fenced } from '../../core/errors.ts'
import type { LogOffset } from '../../core/log/log.ts'
import type { Mark, ObjectStore } from './store.ts'

const FOLDER = '_millrace'
const VERSION = 1
const KEPT = 2

export interface AnnouncedObject extends Pick<Mark, 'topic' | 'partition' | 'first' | 'last' | 'records'> {
  readonly name: string
}

/** Objects to come, and the offset behind them by topic. */
export interface Announced {
  readonly ends: { readonly [topic: string]: number }
  readonly objects: readonly AnnouncedObject[]
}

/** What a task has done. */
export interface Standing {
  /** All before it stands in objects; null: nothing. */
  readonly position: LogOffset | null
  readonly announced: Announced | null
}

interface Manifest extends Standing {
  readonly millrace: typeof VERSION
  readonly task: string
  readonly epoch: number
}

export interface Manifests {
  /** As the owner before has left it. */
  readonly found: Standing
  /** Durable when it resolves. Throws Fenced when a newer owner was there. */
  next(standing: Standing): Promise<void>
}

export const folderOf = (task: string): string => `${FOLDER}/${task}/`
const nameOf = (task: string, number: number): string =>
  `${folderOf(task)}${String(number).padStart(20, '0')}.json`
const numberOf = (name: string): number => Number(/(\d{20})\.json$/.exec(name)?.[1] ?? 0)

const isManifest = (name: string): boolean => numberOf(name) > 0

/** Claims the task: its epoch stands in the store before anything else is written (L1). */
export async function claim(store: ObjectStore, context: Context): Promise<Manifests> {
  const { task, epoch } = context
  const names = (await store.list(folderOf(task))).filter(isManifest)
  const last = names.at(-1)
  const manifest = last === undefined ? null : await read(store, last)
  if (last !== undefined && manifest === null)
    throw new Fenced(`${task} has a newer owner: ${last} in ${store.name} was read by us and removed by it`)
  if (manifest && manifest.epoch >= epoch)
    throw new Fenced(`${task} has a newer owner, epoch ${manifest.epoch}`, manifest.epoch)
  const found: Standing = { position: manifest?.position ?? null, announced: manifest?.announced ?? null }
  let number = last === undefined ? 0 : numberOf(last)
  const next = async (standing: Standing) => {
    await create(store, context, number + 1, standing)
    number++
    names.push(nameOf(task, number))
    await removeOld(store, context, names)
  }
  await next(found)
  return { found, next }
}

async function read(store: ObjectStore, name: string): Promise<Manifest | null> {
  const bytes = await store.read(name)
  if (bytes === null) return null
  const manifest = parsed(bytes)
  if (manifest?.millrace === VERSION) return manifest
  throw new ConnectorError('config', `${name} in ${store.name} is no manifest that this version reads`, {
    hint: 'Was it made by a newer Millrace? Else take away the folder of the task, and what it wrote.',
  })
}

function parsed(bytes: Buffer): Manifest | null {
  try {
    return JSON.parse(bytes.toString()) as Manifest
  } catch {
    return null
  }
}

async function create(
  store: ObjectStore,
  context: Context,
  number: number,
  standing: Standing,
): Promise<void> {
  const { task, epoch } = context
  const name = nameOf(task, number)
  const manifest: Manifest = { millrace: VERSION, task, epoch, ...standing }
  const bytes = Buffer.from(JSON.stringify(manifest))
  assertLease(context)
  if (!(await store.create(name, bytes))) {
    const there = await store.read(name)
    if (!there?.equals(bytes)) {
      const newer = there === null ? 0 : (parsed(there)?.epoch ?? 0)
      throw new Fenced(
        `${task} has a newer owner, epoch ${newer}: ${name} in ${store.name} is its own`,
        newer,
      )
    }
  }
  const [higher] = (await store.list(folderOf(task), name)).filter(isManifest) // stores may leave dirt of their own
  if (higher === undefined) return
  const newer = (await read(store, higher))?.epoch ?? 0
  throw new Fenced(`${task} has a newer owner, epoch ${newer}: ${higher} in ${store.name}`, newer)
}

/** In order, so that what is left is without gaps. One that stays does no harm, and is removed by a later look. */
async function removeOld(store: ObjectStore, { task, log }: Context, names: string[]): Promise<void> {
  try {
    for (; names.length > KEPT; names.shift()) await store.remove(names[0]!)
  } catch (error) {
    log.warn({ task }, `an old manifest in ${store.name} stays: ${asConnectorError(error).message}`)
  }
}

/** Takes away all that tasks have written down; their objects stay. */
export async function forget(store: ObjectStore, tasks: readonly string[]): Promise<void> {
  for (const task of tasks) for (const name of await store.list(folderOf(task))) await store.remove(name)
}
