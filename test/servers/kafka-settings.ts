/** What the brokers of tests are told: of how many they are, where each listens, and who may do what. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Certificate, makeAuthority } from './certificates.ts'

export type KafkaSettings = Readonly<Record<string, string | number>>

export interface KafkaUser {
  /** By PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  readonly username: string
  readonly password: string
  /** As access control lists call it. */
  readonly principal: string
}

/** With access control: certificates, logins, and nothing allowed but to the super user. */
export interface KafkaSecurity {
  /** Path of the authority's certificate. */
  readonly ca: string
  /** May do everything. */
  readonly admin: KafkaUser
  /** May do nothing until it is allowed. */
  readonly alice: KafkaUser
  /** Of one who may do nothing until it is allowed; for a listener that wants it instead of a login. */
  readonly client: Certificate & { readonly principal: string }
  /** The brokers' certificate and its key in one file. */
  readonly keystore: string
}

export interface NodePorts {
  readonly broker: number
  readonly controller: number
  /** Where clients show a certificate; without access control, where a proxy finds the broker. */
  readonly certificate: number
}

export function quorumSettings(nodes: readonly NodePorts[]): KafkaSettings {
  const count = nodes.length
  const [replicas, inSync] = count < 3 ? [1, 1] : [3, 2]
  return {
    'process.roles': 'broker,controller',
    'controller.quorum.voters': nodes.map((one, i) => `${i + 1}@127.0.0.1:${one.controller}`).join(),
    'controller.listener.names': 'CONTROLLER',
    'default.replication.factor': replicas,
    'min.insync.replicas': inSync,
    // One that was killed is waited for that long by those it left: by its own next run too, whose controller knows it as alive.
    // Shorter, and a busy machine loses brokers that are well.
    'broker.session.timeout.ms': count < 3 ? 3_000 : 6_000,
    'broker.heartbeat.interval.ms': 500,
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': 0,
    // Records of tests are of any time.
    'log.retention.ms': -1,
    // Its default is half of the heap.
    'log.cleaner.dedupe.buffer.size': 8 * 1_024 * 1_024,
    'num.network.threads': 2,
    'num.io.threads': 4,
    // Partitions are files and work at each start.
    'offsets.topic.num.partitions': count,
    'offsets.topic.replication.factor': replicas,
    'transaction.state.log.num.partitions': count,
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': inSync,
    'share.coordinator.state.topic.num.partitions': count,
    'share.coordinator.state.topic.replication.factor': replicas,
    'share.coordinator.state.topic.min.isr': inSync,
  }
}

/** `proxyPort`: whoever asks at the listener behind a proxy is told to come there. */
export function listenerSettings(
  ports: NodePorts,
  security: KafkaSecurity | null,
  proxyPort: number | null,
): KafkaSettings {
  const proxied = (port: number | null) => (port === null ? '' : `,PROXIED://127.0.0.1:${port}`)
  const controller = `CONTROLLER://127.0.0.1:${ports.controller}`
  const clients = `CLIENT://127.0.0.1:${ports.broker}`
  const open = security ? `${clients},CERTIFICATE://127.0.0.1:${ports.certificate}` : clients
  const [client, others] = security ? ['SASL_SSL', ',CERTIFICATE:SSL'] : ['PLAINTEXT', '']
  return {
    listeners: `${open}${proxied(proxyPort && ports.certificate)},${controller}`,
    'advertised.listeners': `${open}${proxied(proxyPort)}`,
    'listener.security.protocol.map': `CLIENT:${client},CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT${others}`,
    'inter.broker.listener.name': 'CLIENT',
    ...(security ? accessSettings(security) : {}),
  }
}

function accessSettings({ ca, keystore, admin, alice }: KafkaSecurity): KafkaSettings {
  const login = (module: string, ...users: KafkaUser[]) => {
    const known = users.map(one => ` user_${one.username}="${one.password}"`).join('')
    const own = `username="${admin.username}" password="${admin.password}"`
    return `org.apache.kafka.common.security.${module} required ${own}${known};`
  }
  return {
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    // Of SCRAM brokers know no logins before they have joined.
    'sasl.mechanism.inter.broker.protocol': 'PLAIN',
    'listener.name.client.plain.sasl.jaas.config': login('plain.PlainLoginModule', admin, alice),
    'listener.name.client.scram-sha-256.sasl.jaas.config': login('scram.ScramLoginModule'),
    'listener.name.client.scram-sha-512.sasl.jaas.config': login('scram.ScramLoginModule'),
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': keystore,
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': ca,
    'listener.name.certificate.ssl.client.auth': 'required',
    'listener.name.certificate.ssl.principal.mapping.rules': 'RULE:^CN=(.*?)$/$1/,DEFAULT',
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'allow.everyone.if.no.acl.found': 'false',
    // Nobody is anonymous but brokers to controllers, whose listener no client is told of.
    'super.users': `${admin.principal};User:ANONYMOUS`,
  }
}

export function makeSecurity(folder: string): KafkaSecurity {
  const authority = makeAuthority(folder)
  const broker = authority.issue('broker')
  const keystore = join(folder, 'keystore.pem')
  writeFileSync(keystore, readFileSync(broker.key, 'utf8') + readFileSync(broker.cert, 'utf8'))
  const user = (username: string): KafkaUser => ({
    username,
    password: `${username}-password`,
    principal: `User:${username}`,
  })
  return {
    ca: authority.ca,
    admin: user('admin'),
    alice: user('alice'),
    client: { ...authority.issue('bob'), principal: 'User:bob' },
    keystore,
  }
}

/** In the words of Kafka's StorageTool: what SCRAM logins a new cluster begins with. */
export const scramLogins = ({ admin, alice }: KafkaSecurity): string[] =>
  [admin, alice].flatMap(({ username, password }) =>
    ['SCRAM-SHA-256', 'SCRAM-SHA-512'].map(one => `${one}=[name=${username},password=${password}]`),
  )

/** As Java's .properties. */
export const propertiesOf = (settings: KafkaSettings): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name}=${String(value).replaceAll('\\', '\\\\')}\n`)
    .join('')
