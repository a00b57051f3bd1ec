/**
 * `millrace produce TOPIC`: rows from standard input or a file into a topic that people write, through the hub that runs, else into the
 * log itself. The input goes in chunks, each of which is written once however often it must be sent.
 */
import { randomUUID } from 'node:crypto'
import { accessSync, constants, createReadStream, statSync } from 'node:fs'
import { asConnectorError, ConnectorError, POLICY } from '../errors.ts'
import { type RunningHub, runningHub } from '../hub/directory.ts'
import { admitWriter } from '../hub/preflight.ts'
import { ownProducer, type ProduceRequest, produceInto, targetOf } from '../hub/produce.ts'
import { BadRecord } from '../hub/producer.ts'
import { realClock } from '../worker/clock.ts'
import { ask } from './ask.ts'
import { type Line, linesOf, tooLong } from './lines.ts'
import { BadInput, complain, complainOf, count, print, printJson } from './output.ts'
import { type CommonOptions, loadHub, loadPipelines, logOf, ownHub, type Setting } from './session.ts'

export interface ProduceOptions extends CommonOptions {
  readonly from?: string
  readonly delete?: boolean
  readonly idempotencyKey?: string
  readonly file?: string
}

const CHUNK_LINES = 1_000
const CHUNK_BYTES = 1 << 20
/** Of a hub or a log that is away for a moment. */
const ATTEMPTS = 6
const FIRST_WAIT_MS = 250

type Send = (request: ProduceRequest) => Promise<number>

interface Run {
  readonly topic: string
  readonly options: ProduceOptions
  readonly send: Send
  readonly key: string
  redact(text: string): string
  written: number
}

export async function produce(setting: Setting, topic: string, options: ProduceOptions): Promise<void> {
  const { from } = options
  if (from !== undefined) refuseUnreadable(from)
  const config = loadHub(setting, options)
  const input = from === undefined ? process.stdin : createReadStream(from)
  const redact = (text: string) => setting.secrets.redact(text)
  const key = options.idempotencyKey ?? randomUUID()
  const runWith = (send: Send) => writeAll({ topic, options, send, key, redact, written: 0 }, input)
  const hub = runningHub(config.dataDir)
  if (hub) return await runWith(throughHub(hub, topic))
  const target = targetOf(await loadPipelines(setting, [options.file ?? 'pipelines'], options.json), topic)
  await using owned = ownHub(setting, config, logOf(setting.secrets, options.logLevel ?? 'error'))
  await admitWriter(target.definition, owned.parts, new AbortController().signal)
  await using producer = ownProducer({ ...owned.parts, definition: target.definition })
  return await runWith(request => produceInto(target, producer, request, realClock))
}

const WRONG_FILE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'it may not be read',
}

function refuseUnreadable(path: string): void {
  const wrong = whyUnreadable(path)
  if (wrong === null) return
  complain(`${path}: ${wrong}`)
  throw new BadInput()
}

function whyUnreadable(path: string): string | null {
  try {
    if (!statSync(path).isDirectory()) accessSync(path, constants.R_OK)
    else return 'it is a folder'
    return null
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    return WRONG_FILE[code] ?? message
  }
}

const throughHub =
  (hub: RunningHub, topic: string): Send =>
  async ({ body, type, key }) => {
    const headers = { 'content-type': type, ...(key === null ? {} : { 'idempotency-key': key }) }
    const path = `/api/v1/topics/${encodeURIComponent(topic)}`
    return (await ask<{ records: number }>(hub, 'POST', path, { body, headers })).records
  }

async function writeAll(run: Run, input: AsyncIterable<Buffer>): Promise<void> {
  let chunk: Line[] = []
  let bytes = 0
  try {
    for await (const line of linesOf(input)) {
      const wrong = line.error ?? tooLong(line.bytes)
      if (wrong !== null || chunk.length >= CHUNK_LINES || bytes + line.bytes.length > CHUNK_BYTES) {
        await write(run, chunk)
        chunk = []
        bytes = 0
      }
      if (wrong !== null) throw new BadLine(line, wrong)
      chunk.push(line)
      bytes += line.bytes.length
    }
    await write(run, chunk)
  } catch (thrown) {
    tell(run)
    if (!(thrown instanceof BadLine)) throw thrown
    complainOf(
      new ConnectorError('data', thrown.message, thrown.hint ? { hint: thrown.hint } : {}),
      run.redact,
    )
    throw new BadInput()
  }
  tell(run)
}

class BadLine extends Error {
  readonly hint: string | undefined
  constructor({ place }: Line, what: string, hint?: string) {
    super(`${place}: ${what}`)
    this.hint = hint
  }
}

function tell({ topic, written, options }: Run): void {
  if (options.json) printJson({ topic, records: written })
  else print(`${count(written)} record${written === 1 ? '' : 's'} written to ${topic}`)
}

/** Of a chunk with a bad line those before it. */
async function write(run: Run, chunk: readonly Line[]): Promise<void> {
  if (chunk.length === 0) return
  try {
    run.written += await again(run, chunk)
  } catch (thrown) {
    if (!(thrown instanceof BadRecord)) throw thrown
    if (thrown.index > 0) run.written += await again(run, chunk.slice(0, thrown.index))
    throw new BadLine(chunk[thrown.index]!, thrown.message, thrown.hint)
  }
}

/** Sent until it is answered, under one key: what was written and not answered is not written again. */
async function again({ send, options, key }: Run, chunk: readonly Line[]): Promise<number> {
  const request: ProduceRequest = {
    ...bodyOf(chunk, options.delete === true),
    key: `${key}/${chunk[0]!.number}/${chunk.length}`,
  }
  for (let attempt = 1; ; attempt++)
    try {
      return await send(request)
    } catch (thrown) {
      const error = asConnectorError(thrown)
      const isAway = POLICY[error.kind].action === 'backoff' && error.kind !== 'bug'
      if (!isAway || attempt >= ATTEMPTS) throw thrown
      await realClock.sleep(FIRST_WAIT_MS * 2 ** (attempt - 1))
    }
}

const COMMA = Buffer.from(',')
const NEWLINE = Buffer.from('\n')
const GONE = [Buffer.from('{"key":'), Buffer.from(',"value":null}')] as const

function bodyOf(chunk: readonly Line[], isDelete: boolean): Pick<ProduceRequest, 'body' | 'type'> {
  if (!isDelete)
    return {
      body: Buffer.concat(chunk.flatMap(line => [line.bytes, NEWLINE])),
      type: 'application/x-ndjson',
    }
  const records = chunk.flatMap((line, i) => [...(i === 0 ? [] : [COMMA]), GONE[0], line.bytes, GONE[1]])
  return {
    body: Buffer.concat([Buffer.from('{"records":['), ...records, Buffer.from(']}')]),
    type: 'application/json',
  }
}
