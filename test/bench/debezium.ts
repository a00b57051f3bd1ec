/**
 * Debezium on a Kafka Connect worker of its own, on the same database and cluster, as a peer: what users come from. Brought once
 * per user by Maven; where that cannot be, it is left out by name.
 *
 *   <cache>/millrace/servers/debezium-<version>-<hash>/     jars of the worker, the connector and Kafka's tools
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { CACHE, COPY, isOnPath, JAVA, javaVersion, maven, once } from '../servers/install.ts'
import type { PostgresServer } from '../servers/postgres.ts'
import { onFreePorts, ServerProcess } from '../servers/process.ts'
import type { Follower } from './kafka-topic.ts'

const execute = promisify(execFile)

const VERSION = '3.6.3.Final'
const KAFKA_VERSION = '4.3.1'
/** The oldest that both run on. */
const RELEASE = 17
/** Beside this file. Also from dist/, which holds TypeScript's output only. */
const POM = fileURLToPath(new URL('debezium/pom.xml', import.meta.url)).replace('/dist/test/', '/test/')

/** Why this machine cannot run it (null: it can). What is in the cache already needs nothing to be made. */
export function missingForDebezium(): string | null {
  const missing: string[] = []
  if (javaVersion() < RELEASE) missing.push(`java (${RELEASE} or later)`)
  if (!existsSync(home()) && !isOnPath('mvn')) missing.push('mvn')
  return missing.length > 0 ? `debezium needs ${missing.join(', ')}` : null
}

function home(): string {
  const hash = createHash('sha256').update(JSON.stringify([VERSION, KAFKA_VERSION]))
  return join(
    CACHE,
    `debezium-${VERSION}-${hash.update(readFileSync(POM, 'utf8')).digest('hex').slice(0, 12)}`,
  )
}

/** The class path, from the cache; a minute the first time. */
async function install(): Promise<string> {
  const made = await once(home(), into =>
    maven([
      ...['-f', POM, `-Dkafka.version=${KAFKA_VERSION}`, `-Ddebezium.version=${VERSION}`],
      ...[`${COPY}:copy-dependencies`, `-DoutputDirectory=${into}`],
    ]),
  )
  return join(made, '*')
}

/** What Kafka's own launchers give its programs; the heap is each one's own. */
const javaOptions = (heap: readonly string[]): string[] => [
  ...heap,
  ...['-server', '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=20', '-XX:InitiatingHeapOccupancyPercent=35'],
  ...['-XX:+ExplicitGCInvokesConcurrent', '-XX:MaxInlineLevel=15', '-Djava.awt.headless=true'],
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
]

export interface DebeziumOptions {
  readonly database: PostgresServer
  /** host:port of each broker. */
  readonly brokers: readonly string[]
  /** For its files, its own. */
  readonly folder: string
  /** schema.table */
  readonly table: string
}

const NAME = 'debezium'
/** Not started yet. */
export async function debezium(options: DebeziumOptions): Promise<Follower> {
  const { database, folder, table } = options
  const classPath = await install()
  let worker: Worker | null = null
  return {
    name: NAME,
    topic: `${NAME}.${table}`,
    pid: () => worker?.process.pid ?? 0,
    async start() {
      if (worker) await worker.process.start()
      else
        worker = await onFreePorts(1, ([port]) =>
          firstStart(classPath, options, port!, one => (worker = one)),
        )
      await putConnector(worker.url, connectorOf(options))
    },
    stop: async () => worker?.process.stop(),
    async remove() {
      await worker?.process.kill9()
      await database.sql(
        `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${NAME}'`,
      )
      await database.sql(`DROP PUBLICATION IF EXISTS ${NAME}`)
    },
    log: () => worker?.process.log ?? [`nothing has been written in ${folder}`],
  }
}

interface Worker {
  readonly process: ServerProcess
  readonly url: string
}

/** `made` comes before the start, which is when its use of the machine begins. */
async function firstStart(
  classPath: string,
  { brokers, folder }: DebeziumOptions,
  port: number,
  made: (worker: Worker) => void,
): Promise<Worker> {
  const url = `http://127.0.0.1:${port}`
  const file = join(folder, 'worker.properties')
  writeFileSync(file, propertiesOf(workerSettings(brokers, url, join(folder, 'offsets.dat'))))
  const worker: Worker = {
    url,
    process: new ServerProcess({
      directory: folder,
      program: JAVA,
      arguments: [
        ...javaOptions(['-Xms256M', '-Xmx2G']), // connect-standalone.sh
        '-Dorg.slf4j.simpleLogger.log.org.apache.kafka.connect.runtime.rest.RestServer=info',
        ...['-cp', classPath, 'org.apache.kafka.connect.cli.ConnectStandalone', file],
      ],
      listens: /REST resources initialized/,
      isReady: async () => (await fetch(`${url}/connectors`)).ok,
    }),
  }
  made(worker)
  await worker.process.start(1)
  return worker
}

const propertiesOf = (settings: Readonly<Record<string, string>>): string =>
  Object.entries(settings)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('')

/** A standalone one: it starts sooner than a distributed one and has no group to keep, to Debezium's advantage. */
const workerSettings = (
  brokers: readonly string[],
  url: string,
  offsets: string,
): Record<string, string> => ({
  'bootstrap.servers': brokers.join(),
  listeners: url,
  'offset.storage.file.filename': offsets,
  'plugin.discovery': 'service_load',
  ...converterSettings('key'),
  ...converterSettings('value'),
  ...PRODUCER,
})

const converterSettings = (of: string): Record<string, string> => ({
  [`${of}.converter`]: 'org.apache.kafka.connect.json.JsonConverter',
  [`${of}.converter.schemas.enable`]: 'false',
})

/** As the topics of the other are written; and batches that a backlog can fill. */
const PRODUCER = {
  'producer.compression.type': 'lz4',
  'producer.batch.size': '262144',
}

/** Tuned for a backlog and for latency both: its defaults read 2,048 changes at a time and look for new ones each 500 ms. */
function connectorOf({ database, table }: DebeziumOptions): Record<string, string> {
  const { hostname, port, username, password, pathname } = new URL(database.url)
  return {
    'connector.class': 'io.debezium.connector.postgresql.PostgresConnector',
    'tasks.max': '1',
    'topic.prefix': NAME,
    'database.hostname': hostname,
    'database.port': port,
    'database.user': decodeURIComponent(username),
    'database.password': decodeURIComponent(password),
    'database.dbname': decodeURIComponent(pathname.slice(1)),
    'table.include.list': table,
    'plugin.name': 'pgoutput',
    'slot.name': NAME,
    'publication.name': NAME,
    'publication.autocreate.mode': 'filtered',
    'snapshot.mode': 'initial',
    'poll.interval.ms': '10',
    'max.batch.size': '8192',
    'max.queue.size': '32768',
    // Numbers as text, as the other writes them, and not as bytes in base64.
    'decimal.handling.mode': 'string',
    'topic.creation.default.partitions': '1',
    'topic.creation.default.replication.factor': '1',
  }
}

/** A standalone worker forgets its connectors when it ends, and not where they were. */
async function putConnector(url: string, config: Readonly<Record<string, string>>): Promise<void> {
  const response = await fetch(`${url}/connectors/${NAME}/config`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(config),
  })
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
}

export interface Producing {
  readonly brokers: readonly string[]
  readonly topic: string
  readonly records: number
  /** Of values, a line each. */
  readonly file: string
}

/** Records a second of Kafka's own load program, which writes lines of a file in any order. */
export async function producerPerformance({ brokers, topic, records, file }: Producing): Promise<number> {
  const { stdout } = await execute(JAVA, [
    ...javaOptions(['-Xmx512M']),
    ...['-cp', await install(), 'org.apache.kafka.tools.ProducerPerformance'],
    ...['--topic', topic, '--num-records', String(records), '--throughput', '-1', '--payload-file', file],
    ...['--reporting-interval', '600000', '--bootstrap-server', brokers.join()],
    ...['--command-property', 'acks=all', 'compression.type=lz4', 'batch.size=262144'],
  ])
  const rate = /, ([\d.]+) records\/sec/.exec(stdout)?.[1]
  if (rate === undefined) throw new Error(stdout)
  return Number(rate)
}
