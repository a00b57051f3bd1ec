/** What the YAML parser says of a text, in words that help: one mistake a line, for one slip makes it stumble several times. */
import { type Document, isScalar, type ParsedNode, visit } from 'yaml'

type Parsed = Document.Parsed<ParsedNode>

export interface Said {
  readonly at: number
  readonly message: string
}

const QUOTE_REFERENCE = 'inside [ ] or { } a text with ${ } stands in quotes'

export function syntaxMistakes(document: Parsed, text: string): readonly Said[] {
  const said = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0])
  const byLine = new Map<number, Said>()
  for (const { code, message, pos } of said) {
    // The parser notices an open quote at the end of the file; it was opened elsewhere.
    const at = message.startsWith('Missing closing') ? lastQuote(document, text) : pos[0]
    const start = text.lastIndexOf('\n', Math.max(at - 1, 0)) + 1
    if (byLine.has(start)) continue
    const end = text.indexOf('\n', at)
    const line = text.slice(start, end < 0 ? undefined : end)
    byLine.set(start, { at, message: inWords(code, message, line, text.slice(...pos)) })
  }
  const mistakes = [...byLine.values()]
  // What follows a brace that was taken for YAML's is misread.
  const brace = mistakes.findIndex(one => one.message.includes(QUOTE_REFERENCE))
  return brace < 0 ? mistakes : mistakes.slice(0, brace + 1)
}

function lastQuote(document: Parsed, text: string): number {
  let last = text.length
  visit(document, (_, node) => {
    if (isScalar(node) && node.type?.startsWith('QUOTE') && node.range) last = node.range[0]
  })
  return last
}

function inWords(code: string, message: string, line: string, slice: string): string {
  const reference = code.startsWith('TAB') ? null : line.match(/[[{,].*?(\$\{[^}]*\}?)/)
  if (reference) return `cannot be read: ${QUOTE_REFERENCE}: "${reference[1]}"`
  if (message.startsWith('Missing closing')) return 'a quote is opened here and never closed'
  if (message.startsWith('Flow')) return 'a [ or { before this line is not closed'
  if (message.includes('block-seq-ind on same line'))
    return 'a list item (-) cannot stand on the line of its key: begin the list on the next line, or write [a, b]'
  if (message.includes('token in YAML stream')) return `"${slice.charAt(0)}" closes nothing`
  if (message.includes('at node end'))
    return 'text follows a value that has ended: put the whole text in quotes'
  return byCode(code, message, line, slice)
}

function byCode(code: string, message: string, line: string, slice: string): string {
  switch (code) {
    case 'TAB_AS_INDENT':
      return 'a tab cannot indent in YAML: use spaces'
    case 'TAG_RESOLVE_FAILED':
      return `${shown(slice, line)} is a tag in YAML, and there is none of that name; a text that begins with ! stands in quotes: "${shown(slice, line)}"`
    case 'BAD_SCALAR_START':
      return `a text cannot begin with ${slice.charAt(0)}: put it in quotes`
    case 'BLOCK_AS_IMPLICIT_KEY':
      return /:\s.*:\s/.test(line)
        ? 'two ": " in one line: put the text in quotes, or the mapping on lines of its own'
        : 'this key has a value, and the next line is indented as if it belonged to it'
    case 'MULTILINE_IMPLICIT_KEY':
      return 'is no "key: value": is the colon missing, or the space behind it, or is the line indented wrongly?'
    case 'BAD_INDENT':
      return 'is indented differently from its neighbours'
    default:
      return `cannot be read as YAML: ${message.charAt(0).toLowerCase()}${message.slice(1)}`
  }
}

/** A word of the file, unless its line looks as if it held a secret. */
export const shown = (word: string, line: string): string =>
  /pass|pwd|secret|token|key|auth|credential|:\/\//i.test(line) ? `${word.charAt(0)}…` : word
