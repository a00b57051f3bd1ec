/** A mistake in a file: where, what, and the right name when one is near. Messages are for people; they show values, never secrets. */

export interface Mistake {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1, in characters. */
  readonly column: number
  readonly message: string
}

export const mistakeText = ({ file, line, column, message }: Mistake): string =>
  `${file}:${line}:${column}: ${message}`

/** By file, line, column; each once. */
export function inOrder(mistakes: readonly Mistake[]): Mistake[] {
  const byText = new Map(mistakes.map(one => [mistakeText(one), one]))
  const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  return [...byText.values()].sort(
    (a, b) =>
      compare(a.file, b.file) || a.line - b.line || a.column - b.column || compare(a.message, b.message),
  )
}

/** How people vary a name without mistyping it: heartbeatMs, heartbeat-ms, Heartbeat_MS. */
const folded = (name: string): string => name.toLowerCase().replace(/[-_ .]/g, '')

/** The name that was meant, if one is near enough: a third of its letters may be wrong. */
export function nearest(word: string, names: Iterable<string>): string | null {
  let best: string | null = null
  let bestDistance = Number.POSITIVE_INFINITY
  const wanted = folded(word)
  if (wanted.length > 60) return null
  for (const name of names) {
    // "elastic" for "elasticsearch": whoever begins a long name rightly means it.
    const begins = wanted.length >= 4 && folded(name).startsWith(wanted)
    const distance = begins ? 1 : editDistance(wanted, folded(name))
    const allowed = Math.max(1, Math.floor(Math.max(wanted.length, name.length) / 3))
    if (distance > allowed || distance >= Math.max(wanted.length, 1) || distance >= bestDistance) continue
    best = name
    bestDistance = distance
  }
  return best
}

/** Letters added, left out, changed, or swapped with their neighbour. */
export function editDistance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + change)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        row[j] = Math.min(row[j]!, before[j - 2]! + 1)
    }
    before = last
    last = row
  }
  return last[b.length]!
}

/** `a, b or c`. */
export function oneOf(names: readonly string[]): string {
  if (names.length < 2) return names.join('')
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`
}

/** `; did you mean "x"?`, else `; there is a, b or c`, else nothing. */
export function suggestion(word: string, names: readonly string[], otherwise = 'known are'): string {
  const near = nearest(word, names)
  if (near !== null) return `; did you mean "${near}"?`
  return names.length === 0 || names.length > 24 ? '' : `; ${otherwise} ${names.join(', ')}`
}
