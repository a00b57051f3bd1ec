/**
 * References in texts of YAML: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`, `$${` for a `${` as it stands. Text in
 * `${…}` without a colon is not ours: sinks fill it per record. A default may hold references; an empty variable counts as
 * not set when there is a default, as in a shell.
 */

export interface ReferenceSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Throws when the file cannot be read. Paths are from the current directory. */
  readonly readFile: (path: string) => string
}

export interface Filled {
  readonly text: string
  /** The whole text was one reference: it may stand for a number or a boolean. */
  readonly isWhole: boolean
  /** Came from outside: messages show the reference. */
  readonly isFilled: boolean
  /** What came out of files: secrets by rule. */
  readonly fromFiles: readonly string[]
  /** `at`: index in the text. */
  readonly mistakes: readonly { readonly at: number; readonly message: string }[]
}

interface State extends ReferenceSources {
  readonly mistakes: { at: number; message: string }[]
  readonly fromFiles: string[]
  count: number
}

const KIND = /\$\{([A-Za-z_]+):/y

export function fill(text: string, sources: ReferenceSources): Filled {
  if (!text.includes('${')) return { text, isWhole: false, isFilled: false, fromFiles: [], mistakes: [] }
  const state: State = { ...sources, mistakes: [], fromFiles: [], count: 0 }
  const isWhole = isReference(text, 0) && referenceEnd(text, 0) === text.length
  const filled = filledText(text, 0, state)
  const { mistakes, fromFiles, count } = state
  return { text: filled, isWhole, isFilled: count > 0, fromFiles, mistakes }
}

function isReference(text: string, at: number): boolean {
  KIND.lastIndex = at
  return KIND.test(text)
}

/** `base`: where `text` begins in the whole, for positions. */
function filledText(text: string, base: number, state: State): string {
  let out = ''
  let at = 0
  for (;;) {
    const next = text.indexOf('${', at)
    if (next < 0) return out + text.slice(at)
    if (next > at && text[next - 1] === '$') {
      out += `${text.slice(at, next - 1)}\${`
      at = next + 2
    } else if (!isReference(text, next)) {
      out += text.slice(at, next + 2)
      at = next + 2
    } else {
      const end = referenceEnd(text, next)
      if (end < 0) {
        // Not the rest of the text: what follows may be a secret.
        const kind = text.slice(next, text.indexOf(':', next) + 1)
        state.mistakes.push({ at: base + next, message: `"${kind}…" has no closing }` })
        return out + text.slice(at)
      }
      out += text.slice(at, next) + referenced(text.slice(next, end), base + next, state)
      at = end
    }
  }
}

/** Index behind the `}` that closes the reference at `at`; -1: none does. */
function referenceEnd(text: string, at: number): number {
  let depth = 0
  for (let i = at; i < text.length; i++) {
    if (text[i] === '}' && --depth === 0) return i + 1
    if (text[i] === '$' && text[i + 1] === '{') {
      depth++
      i++
    }
  }
  return -1
}

function referenced(reference: string, at: number, state: State): string {
  state.count++
  const [, kind, rest] = reference.match(/^\$\{([A-Za-z_]+):(.*)\}$/s)!
  if (kind === 'env') return envOf(rest!, at, state)
  if (kind === 'file') return fileOf(rest!, at, state)
  state.mistakes.push({
    at,
    message: `"\${${kind}:…}" is no reference: there are \${env:NAME}, \${env:NAME:-default} and \${file:PATH}; write $\${ for a \${ as it stands`,
  })
  return ''
}

function envOf(rest: string, at: number, state: State): string {
  const cut = rest.indexOf(':-')
  const name = cut < 0 ? rest : rest.slice(0, cut)
  const complain = (message: string) => {
    state.mistakes.push({ at, message })
    return ''
  }
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    return complain(`"${name.slice(0, 40)}" is no name of an environment variable`)
  // No inherited names: "constructor" is not set.
  const value = Object.hasOwn(state.env, name) ? state.env[name] : undefined
  if (cut >= 0 && (value === undefined || value === ''))
    return filledText(rest.slice(cut + 2), at + '${env:'.length + cut + 2, state)
  if (value !== undefined) return value
  return complain(
    `the environment variable ${name} is not set; set it, or give a default: \${env:${name}:-…}`,
  )
}

function fileOf(path: string, at: number, state: State): string {
  try {
    const text = state.readFile(path).replace(/\r?\n$/, '')
    state.fromFiles.push(text)
    return text
  } catch (error) {
    state.mistakes.push({ at, message: `the file "${path}" cannot be read: ${whyNot(error)}` })
    return ''
  }
}

function whyNot(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'there is none (paths are from the current directory)'
  if (code === 'EACCES') return 'permission denied'
  if (code === 'EISDIR') return 'it is a directory'
  return message ?? String(error)
}
