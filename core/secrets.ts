/**
 * Keeps secrets out of what people and disks see: whoever reads a secret adds it, whoever prints or stores text passes it
 * through `redact`. Contract file: imports nothing.
 *
 * A secret is found raw, percent-encoded (as a whole or in part) and escaped as JSON (once or twice). A text of several lines
 * is also found line by line, for errors quote lines. A secret that is a common word (shorter than 4 characters, or named as
 * such: the password "postgres" of user "postgres") would take that word out of every message and tell what it is by that:
 * it is replaced only where a password stands (`:x@` of a URL, `password=x`, `"password": "x"`).
 */

const MASK = '***'
const SHORTEST = 4
const SHORTEST_LINE = 16
/** Passwords of development machines that are words of every other message. */
const COMMON =
  /^(localhost|postgres|postgresql|mysql|elastic|redis|root|admin|guest|password|secret|true|false|null)$/

/** The password of any URL, known or not. A `/` ends the part in which it may stand. */
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/?#@"'`]*:)([^\s/?#"'`]+)(?=@)/gi

export class Secrets {
  readonly #strong = new Set<string>()
  readonly #weak = new Set<string>()
  #pattern: RegExp | null = null
  #weakPattern: RegExp | null = null

  /** `isWord`: the text is no secret elsewhere, as a user's name is not. */
  add(text: string, isWord = false): void {
    if (text.trim() === '') return
    if (isWord || text.length < SHORTEST || COMMON.test(text)) this.#weak.add(text)
    else this.#strong.add(text)
    const lines = text.split(/\r?\n/)
    if (lines.length > 1)
      for (const line of lines)
        if (line.length >= SHORTEST_LINE && !line.startsWith('-----')) this.#strong.add(line)
    this.#pattern = patternOf(this.#strong)
    this.#weakPattern = weakPatternOf(this.#weak)
  }

  /** The password of each URL in `text`, and what its parameters hold by a telling name. */
  addUrls(text: string): void {
    for (const { secret, isWord } of secretsOfUrls(text)) this.add(secret, isWord)
  }

  redact(text: string): string {
    let out = text.includes('://') ? text.replace(URL_PASSWORD, `$1${MASK}`) : text
    if (this.#pattern) out = out.replace(this.#pattern, MASK)
    if (this.#weakPattern) out = out.replace(this.#weakPattern, `$1${MASK}`)
    return out
  }
}

const PARAMETER = /[?&;]([\w.-]*(?:pass|pwd|secret|token|key|signature)[\w.-]*)=([^&;#\s"'`]+)/gi
const URL_PARTS =
  /\b([a-z][a-z0-9+.-]*):\/\/([^\s:/?#@"'`]*):([^\s/?#"'`]+)@([^\s/?#:,"'`]*)[^/\s]*\/?([^\s?#"'`]*)/gi

/** `x` decoded when it can be. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** A word that stands elsewhere in the URL is no secret by itself. */
export function secretsOfUrls(text: string): readonly { secret: string; isWord: boolean }[] {
  if (!text.includes('://')) return []
  const found: { secret: string; isWord: boolean }[] = []
  for (const [, scheme, user, password, host, path] of text.matchAll(URL_PARTS)) {
    const secret = decoded(password!)
    const isWord = [scheme, user, host, path].some(part => decoded(part!) === secret)
    found.push({ secret, isWord })
  }
  for (const [, , value] of text.matchAll(PARAMETER)) found.push({ secret: decoded(value!), isWord: false })
  return found
}

/** Longer ones first, so that a secret inside a secret does not leave the rest of it to be read. */
const alternatives = (secrets: ReadonlySet<string>): string =>
  [...secrets]
    .sort((a, b) => b.length - a.length)
    .map(secret => [...secret].map(anyForm).join(''))
    .join('|')

const patternOf = (secrets: ReadonlySet<string>): RegExp | null =>
  secrets.size === 0 ? null : new RegExp(alternatives(secrets), 'g')

const weakPatternOf = (secrets: ReadonlySet<string>): RegExp | null =>
  secrets.size === 0
    ? null
    : new RegExp(
        `(://[^\\s:/?#@]*:|(?:pass|passwd|password|pwd|secret|token)\\\\*["']?\\s*[:=]\\s*\\\\*["']?)(?:${alternatives(secrets)})(?![\\w%])`,
        'gi',
      )

/** One character in each form it may have. */
function anyForm(char: string): string {
  if (/^[A-Za-z0-9]$/.test(char)) return char
  const raw = char.replace(/[\\^$.|?+*()[\]{}/-]/g, '\\$&')
  const forms = new Set([raw, percent(char)])
  const json = JSON.stringify(char).slice(1, -1)
  if (json !== char) forms.add(`\\\\+${json.slice(1).replace(/[\\^$.|?+*()[\]{}]/g, '\\$&')}`)
  if (char === '\n') forms.add('\\r\\n')
  if (char === ' ') forms.add('\\+')
  return `(?:${[...forms].join('|')})`
}

/** `%2F`, whose letters may be small. */
const percent = (char: string): string =>
  [...Buffer.from(char, 'utf8')]
    .map(
      byte =>
        `%${byte
          .toString(16)
          .padStart(2, '0')
          .replace(/[a-f]/g, letter => `[${letter}${letter.toUpperCase()}]`)}`,
    )
    .join('')
