/** What real clusters answered, by the name of the question. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface Recorded {
  readonly name: string
  readonly request: { readonly method: string; readonly path: string }
  readonly status: number
  readonly body: unknown
}

const pathOf = (kind: string): string =>
  fileURLToPath(new URL(`../golden/search/${kind}.json`, import.meta.url))

export const allRecorded = (kind: string): readonly Recorded[] =>
  JSON.parse(readFileSync(pathOf(kind), 'utf8')) as Recorded[]

export function recorded(kind: string): (name: string) => Recorded {
  const all = new Map(allRecorded(kind).map(one => [one.name, one]))
  return name => {
    const found = all.get(name)
    if (!found) throw new Error(`no answer to "${name}" was recorded of ${kind}`)
    return found
  }
}
