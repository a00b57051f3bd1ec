/**
 * A real Kafka for a test: one broker or three, on free ports of loopback, with their data in the folder for temporary files;
 * each is a controller too, and three are a quorum of three. `await using` ends them.
 *
 *   millrace-test-kafka-XXXXXX/
 *     <id>/node.properties  <id>/data/     of each broker, from 1
 *     certificates/                        with access control
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import kafkajs, { type KafkaConfig } from 'kafkajs'
import type { Certificate } from './certificates.ts'
import { installKafka, type KafkaInstallation } from './kafka-install.ts'
import {
  type KafkaSecurity,
  type KafkaSettings,
  type KafkaUser,
  listenerSettings,
  makeSecurity,
  type NodePorts,
  propertiesOf,
  quorumSettings,
  scramLogins,
} from './kafka-settings.ts'
import { allOrNone, makeHome, onFreePorts, removeHome, ServerProcess } from './process.ts'

export { missingForKafka } from './kafka-install.ts'
export type { KafkaUser } from './kafka-settings.ts'

export interface KafkaOptions {
  readonly brokers?: 1 | 3
  /** TLS, logins and access control lists. */
  readonly secure?: boolean
  /** Of one broker without access control: a further listener, whose clients are told to come to this port, a proxy's. */
  readonly proxyPort?: number
  /** Of every broker. After ours, and so stronger. */
  readonly settings?: KafkaSettings
  readonly heapMb?: number
  /** After ours, and so stronger. Ours want a quick start; for a measurement: -XX:TieredStopAtLevel=4. */
  readonly javaOptions?: readonly string[]
}

export interface KafkaBroker {
  /** From 1. */
  readonly id: number
  /** host:port. Stays the same over stop and start. */
  readonly url: string
  readonly pid: number
  /** What it wrote, a line each, of all its runs: warnings and errors. */
  readonly log: readonly string[]
  /** SIGTERM, then SIGKILL. Repeatable. */
  stop(): Promise<void>
  /** SIGKILL. Resolves when it is gone. */
  kill9(): Promise<void>
  /** SIGSTOP: connections stay open and nothing answers, until `thaw`. */
  freeze(): void
  thaw(): void
  /** Again, on the same ports and data, after stop or kill9. Of three, two must run for it: start them at once. */
  start(): Promise<void>
}

export interface KafkaCluster extends AsyncDisposable {
  /** host:port of every broker. */
  readonly bootstrap: readonly string[]
  readonly brokers: readonly KafkaBroker[]
  /** With `proxyPort`: where the proxy finds the broker. */
  readonly behindProxy: number
  /** With `secure`: path of the certificate of the authority that signed theirs. */
  readonly ca?: string
  /** With `secure`: the super user, and one who may do nothing until access control lists say so. */
  readonly users?: { readonly admin: KafkaUser; readonly alice: KafkaUser }
  /** With `secure`: for a listener that wants no login but this certificate, of one who may do nothing either. */
  readonly clientCertificate?: Certificate & {
    readonly principal: string
    readonly bootstrap: readonly string[]
  }
}

const { Kafka, logLevel } = kafkajs

export async function startKafka(options: KafkaOptions = {}): Promise<KafkaCluster> {
  const installation = await installKafka()
  const count = options.brokers ?? 1
  const home = makeHome('kafka')
  try {
    const security = options.secure ? makeSecurity(join(home, 'certificates')) : null
    return await onFreePorts(3 * count, async free => {
      const nodes = Array.from({ length: count }, (_, i): NodePorts => {
        const [broker, controller, certificate] = free.slice(3 * i) as [number, number, number]
        return { broker, controller, certificate }
      })
      const brokers = await startAll({ home, installation, options, security, nodes })
      return describe(brokers, home, nodes, security)
    })
  } catch (error) {
    removeHome(home)
    throw error
  }
}

interface Plan {
  readonly home: string
  readonly installation: KafkaInstallation
  readonly options: KafkaOptions
  readonly security: KafkaSecurity | null
  readonly nodes: readonly NodePorts[]
}

async function startAll(plan: Plan): Promise<Broker[]> {
  // Of an attempt on other ports, nothing.
  for (const i of plan.nodes.keys()) removeHome(join(plan.home, String(i + 1)))
  // As Kafka writes 16 bytes; it takes none that begins with '-'.
  const cluster = `M${randomBytes(16).toString('base64url').slice(1)}`
  const brokers = plan.nodes.map((_, i) => new Broker(i + 1, plan, cluster))
  await allOrNone(brokers, () => Promise.all(brokers.map(one => one.start(1))))
  return brokers
}

class Broker extends ServerProcess implements KafkaBroker {
  readonly id: number
  readonly url: string

  constructor(id: number, { home, installation, options, security, nodes }: Plan, cluster: string) {
    const ports = nodes[id - 1]!
    const url = `127.0.0.1:${ports.broker}`
    const directory = join(home, String(id))
    mkdirSync(directory)
    const file = join(directory, 'node.properties')
    const settings = {
      'node.id': id,
      'log.dirs': join(directory, 'data'),
      ...quorumSettings(nodes),
      ...listenerSettings(ports, security, options.proxyPort ?? null),
      ...options.settings,
    }
    writeFileSync(file, propertiesOf(settings))
    const { java, classPath, main } = installation
    const heapMb = options.heapMb ?? 256
    let hasRun = false
    super({
      directory,
      program: java,
      arguments: [
        ...[`-Xms${heapMb}m`, `-Xmx${heapMb}m`, '-XX:+UseSerialGC', '-XX:-UsePerfData'],
        // Most of the work of a start is the better compiler's, which pays off in minutes only.
        '-XX:TieredStopAtLevel=1',
        ...['-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', `-Djava.io.tmpdir=${directory}`],
        ...(options.javaOptions ?? []),
        ...['-cp', classPath, main, file, cluster, ...(security ? scramLogins(security) : [])],
      ],
      listens: /^it listens$/,
      async isReady() {
        const known = await brokersKnownTo(url, security)
        // Later the others may well be gone.
        const isReady = hasRun ? known.includes(id) : known.length === nodes.length
        hasRun ||= isReady
        return isReady
      },
    })
    this.id = id
    this.url = url
  }
}

async function brokersKnownTo(url: string, security: KafkaSecurity | null): Promise<number[]> {
  const access: Partial<KafkaConfig> = security
    ? { ssl: { ca: readFileSync(security.ca, 'utf8') }, sasl: { mechanism: 'plain', ...security.admin } }
    : {}
  const client = new Kafka({
    brokers: [url],
    ...access,
    logLevel: logLevel.NOTHING,
    requestTimeout: 5_000,
    retry: { retries: 0 },
  })
  const admin = client.admin()
  try {
    await admin.connect()
    const { brokers } = await admin.describeCluster()
    return brokers.map(one => one.nodeId)
  } finally {
    await admin.disconnect()
  }
}

function describe(
  brokers: readonly Broker[],
  home: string,
  nodes: readonly NodePorts[],
  security: KafkaSecurity | null,
): KafkaCluster {
  const bootstrap = nodes.map(one => `127.0.0.1:${one.certificate}`)
  return {
    bootstrap: brokers.map(one => one.url),
    brokers,
    behindProxy: nodes[0]!.certificate,
    ...(security
      ? {
          ca: security.ca,
          users: { admin: security.admin, alice: security.alice },
          clientCertificate: { ...security.client, bootstrap },
        }
      : {}),
    async [Symbol.asyncDispose]() {
      // Nobody wants the data any more: it need not be put in order.
      await Promise.all(brokers.map(one => one.kill9()))
      removeHome(home)
    },
  }
}
