/**
 * What the client throws, as one of the seven kinds. Kafka's own codes are told by name: they are what people search for
 * (https://kafka.apache.org/protocol.html#protocol_error_codes).
 */
import { ConnectorError, type ErrorKind, Fenced } from '../errors.ts'

const FENCED = [
  'INVALID_PRODUCER_EPOCH',
  'PRODUCER_FENCED',
  'INVALID_PRODUCER_ID_MAPPING',
  'INVALID_TXN_STATE',
]
const NOT_ALLOWED = [
  'TOPIC_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
]
/** While a coordinator comes up, or the topic of groups is made: asked again, it is there. */
export const NO_COORDINATOR = [
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
]
const TOO_LARGE = ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']
const SETTINGS = [
  'INVALID_REPLICATION_FACTOR',
  'INVALID_PARTITIONS',
  'INVALID_CONFIG',
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'UNSUPPORTED_VERSION',
]
/** What Node's TLS says of a certificate, and what a server that speaks no TLS looks like. */
const TLS = /certificate|self.signed|SSL|TLS|EPROTO|ERR_TLS|wrong version number|unable to (get|verify)/i

/** What the client's own code meets when the connection goes before it was told of the cluster: a TypeError. */
const NO_METADATA =
  /'(topicMetadata|controllerId|brokers)' of .*null|null \(reading '(topicMetadata|controllerId|brokers)'\)/

export const HINT_ACLS = 'Give the user what "Kafka as the log" in the docs lists for kafka-acls.'
const HINT_LARGE =
  'Raise max.message.bytes (of the topic, and message.max.bytes of the brokers), or leave the large column out with source.columns.'

interface Told {
  readonly name?: string
  readonly type?: string
  readonly message: string
  readonly cause?: unknown
  readonly originalError?: unknown
  /** Of a request for several things, what each met. */
  readonly errors?: readonly unknown[]
}

/** The client wraps what happened, sometimes twice. */
function innermost(error: unknown): Told {
  let told = error as Told
  for (let depth = 0; depth < 5; depth++) {
    const inner = (told.cause ?? told.originalError ?? told.errors?.[0]) as Told | undefined
    if (!inner?.message) return told
    told = inner
  }
  return told
}

/** Kafka's own code for it; '': it has none. */
export const typeOf = (error: unknown): string => innermost(error).type ?? ''

/** `what`: what was tried, "the transaction of shop/source", for the message. */
export function kafkaError(error: unknown, what: string): Error {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  const told = innermost(error)
  const type = told.type ?? ''
  if (FENCED.includes(type))
    return new Fenced(`${what}: a newer owner works under its transactional.id (${type})`)
  const [kind, hint] = kindOf(told, type)
  return new ConnectorError(kind, `Kafka: ${what}: ${type ? `${type}, ` : ''}${told.message}`, {
    cause: error,
    ...(hint ? { hint } : {}),
  })
}

function kindOf({ name = '', message }: Told, type: string): [ErrorKind, string | null] {
  if (NOT_ALLOWED.includes(type)) return ['auth', HINT_ACLS]
  if (TOO_LARGE.includes(type)) return ['config', HINT_LARGE]
  if (SETTINGS.includes(type))
    return [
      'config',
      'Change log.topic in hub.yaml; of a sink `topic`, `topic_config` and `replication_factor`.',
    ]
  if (/SASL/.test(name) || /SASL|Authentication/i.test(message))
    return [
      'auth',
      'See log.sasl in hub.yaml, or `sasl` of the source or sink: mechanism, username and password.',
    ]
  if (type === '' && TLS.test(message))
    return [
      'auth',
      'See log.tls in hub.yaml, or `tls` of the source or sink: ca, cert and key, and the port of the listener.',
    ]
  if (type === 'NOT_ENOUGH_REPLICAS' || type === 'NOT_ENOUGH_REPLICAS_AFTER_APPEND')
    return ['unavailable', 'Fewer replicas are in step than min.insync.replicas asks for: a broker is away.']
  if (type === 'CONCURRENT_TRANSACTIONS')
    return [
      'unavailable',
      'The transaction before cannot be ended yet: a broker is away, or fewer replicas are in step than min.insync.replicas asks for.',
    ]
  if (type !== '' || name.startsWith('KafkaJS')) return ['unavailable', null]
  if (/ECONN|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH|EAI_AGAIN|EPIPE|socket|connection/i.test(message))
    return ['unavailable', null]
  if (NO_METADATA.test(message)) return ['unavailable', null]
  return ['bug', null]
}
