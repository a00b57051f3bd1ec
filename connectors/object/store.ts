/** What the object sinks need of a store of objects. Names are below the sink's prefix, with `/` between their parts. */
import type { Json } from '../../core/record.ts'

/** What an object holds, kept beside it where the store can. */
export interface Mark {
  readonly log: string
  readonly topic: string
  readonly partition: number
  readonly first: number
  readonly last: number
  readonly records: number
}

/** Makes the same bytes each time it is called. */
export type Body = () => AsyncIterable<Buffer>

export interface ObjectStore extends AsyncDisposable {
  /** For messages: "s3://bucket/prefix". */
  readonly name: string
  /** Objects that are put side by side. */
  readonly parallel: number
  /** Why it has no object of that name, ever; null: it may have one. */
  unfit(name: string): string | null
  /** Small, whole, and only if there is none of that name, whoever else tries at this moment: true. Else false. */
  create(name: string, bytes: Buffer): Promise<boolean>
  /** null: there is none. */
  read(name: string): Promise<Buffer | null>
  /** Whole and durable when it resolves; not seen before. 'exists': there is one, and it is as it was. */
  put(name: string, body: Body, mark: Mark): Promise<'made' | 'exists'>
  /** Whether what stands there was made of the same records; null: there is none. */
  isSame(name: string, body: Body, mark: Mark): Promise<boolean | null>
  /** Names below `folder` in order, those behind `after` only, `most` at most. Sees all that was created before (strong consistency). */
  list(folder: string, after?: string, most?: number): Promise<string[]>
  /** Also one that is not there. */
  remove(name: string): Promise<void>
}

/** How an object store is reached, and what it tells of itself. */
export interface StoreParts<C> {
  open(config: C, task: string, signal: AbortSignal): Promise<ObjectStore>
  /** "s3://bucket/prefix", without a connection. */
  nameOf(config: C): string
  /** Throws `config` or `auth` for a place that is not there or may not be written. */
  check(store: ObjectStore, config: C): Promise<void>
  /** For `plan`. */
  describe(config: C): { readonly [name: string]: Json }
}

/** An object as a listing shows it. */
export interface Found {
  /** Below the prefix. */
  readonly name: string
  readonly size: number
  /** When it came or was changed, ms since 1970, by the store's clock. */
  readonly modifiedMs: number
  /** Another one when it is written anew. */
  readonly version: string
}

/** What the object sources need of a store. */
export interface ReadableStore extends AsyncDisposable {
  /** For messages: "s3://bucket/prefix". */
  readonly name: string
  /** All below the prefix in the order of their names (by their UTF-8 bytes), some at a time. */
  list(): AsyncIterable<readonly Found[]>
  /** null: there is none. */
  look(name: string): Promise<Found | null>
  /** null: what stands there is no more the one that was found. */
  range(object: Found, from: number, length: number): Promise<Buffer | null>
}
