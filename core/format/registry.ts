/**
 * A schema registry that speaks Confluent's API (Confluent, Apicurio's ccompat, Redpanda, Karapace), over plain HTTP: four calls are
 * all that is needed. What it refuses is told as it says it.
 */
import { z } from 'zod'
import { ConnectorError } from '../errors.ts'

export type SchemaType = 'AVRO' | 'PROTOBUF' | 'JSON'

export const registrySchema = z.strictObject({
  url: z
    .string()
    .refine(text => URL.canParse(text) && /^https?:/.test(text), 'must begin with http:// or https://')
    .meta({
      title: 'URL',
      description: 'http://host:8081; of Apicurio http://host:8080/apis/ccompat/v7.',
    }),
  username: z.string().min(1).optional().meta({ title: 'User', description: 'For basic authentication.' }),
  password: z
    .string()
    .min(1)
    .optional()
    .meta({ title: 'Password', description: 'For basic authentication.', secret: true }),
  subject: z.enum(['topic', 'record', 'topic_record']).default('topic').meta({
    title: 'Subject',
    description:
      'topic: <topic>-key and <topic>-value. record: the record’s name. topic_record: <topic>-<the record’s name>.',
  }),
  register: z.boolean().default(true).meta({
    title: 'Register',
    description: 'false: schemas must stand there already, as we would make them.',
  }),
})
export type RegistryConfig = z.output<typeof registrySchema>

export interface RegisteredSchema {
  readonly id: number
  readonly schema: string
  readonly type: SchemaType
}

export interface Registry {
  /** Its id; the same text again has the same. Throws `config` for one that the subject's compatibility refuses, with what changed. */
  register(subject: string, schema: string, type: SchemaType): Promise<number>
  /** null: there is none. */
  latest(subject: string): Promise<RegisteredSchema | null>
  byId(id: number): Promise<RegisteredSchema>
}

const TIMEOUT_MS = 10_000
const NOT_FOUND = 404
const REFUSED = [409, 422]

interface Answer {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}

export function registryOf(config: RegistryConfig): Registry {
  const byId = new Map<number, RegisteredSchema>()
  const of = (subject: string) => `/subjects/${encodeURIComponent(subject)}`
  return {
    async register(subject, schema, schemaType) {
      const path = config.register ? `${of(subject)}/versions` : of(subject)
      const { status, body } = await ask(config, 'POST', path, { schema, schemaType })
      if (status === NOT_FOUND && !config.register)
        throw new ConnectorError(
          'config',
          `the schema registry has not this schema of ${subject}: ${schema}`,
          {
            hint: 'Register it, or set registry.register: true.',
          },
        )
      if (REFUSED.includes(status)) throw await incompatible(config, subject, schema, schemaType, body)
      refuse(config, status, body, `registering the schema of ${subject}`)
      return Number(body.id)
    },
    async latest(subject) {
      const { status, body } = await ask(config, 'GET', `${of(subject)}/versions/latest`)
      if (status === NOT_FOUND) return null
      refuse(config, status, body, `asking for the schema of ${subject}`)
      return schemaOf(Number(body.id), body)
    },
    async byId(id) {
      const known = byId.get(id)
      if (known) return known
      const { status, body } = await ask(config, 'GET', `/schemas/ids/${id}`)
      refuse(config, status, body, `asking for schema ${id}`)
      const found = schemaOf(id, body)
      byId.set(id, found)
      return found
    },
  }
}

const schemaOf = (id: number, { schema, schemaType }: Answer['body']): RegisteredSchema => ({
  id,
  schema: String(schema),
  type: (schemaType ?? 'AVRO') as SchemaType,
})

/** Asked again with words: a refusal alone names a number only. */
async function incompatible(
  config: RegistryConfig,
  subject: string,
  schema: string,
  schemaType: SchemaType,
  refusal: Answer['body'],
): Promise<ConnectorError> {
  const path = `/compatibility/subjects/${encodeURIComponent(subject)}/versions/latest?verbose=true`
  const { body } = await ask(config, 'POST', path, { schema, schemaType })
  const messages = Array.isArray(body.messages) ? body.messages.map(String) : []
  const said = messages.length > 0 ? messages.join('; ') : String(refusal.message ?? '')
  return new ConnectorError('config', `the schema registry refuses the new schema of ${subject}: ${said}`, {
    hint: `The table changed in a way that the subject's compatibility forbids. Change the compatibility (PUT /config/${subject}), or write to another topic.`,
  })
}

async function ask(
  { url, username, password }: RegistryConfig,
  method: string,
  path: string,
  body?: object,
): Promise<Answer> {
  const { address, user, secret } = placeOf(url)
  const name = username ?? user
  const login = name === '' ? null : Buffer.from(`${name}:${password ?? secret}`).toString('base64')
  try {
    const response = await fetch(`${address}${path}`, {
      method,
      headers: {
        'content-type': 'application/vnd.schemaregistry.v1+json',
        ...(login === null ? {} : { authorization: `Basic ${login}` }),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    const text = await response.text()
    const parsed: unknown = text.startsWith('{') ? JSON.parse(text) : { message: text.slice(0, 200) }
    return { status: response.status, body: parsed as Answer['body'] }
  } catch (error) {
    const { message, cause } = error as Error
    const why = cause instanceof Error ? cause.message : ''
    throw new ConnectorError(
      'unavailable',
      `the schema registry ${hostOf(url)} does not answer: ${message} ${why}`.trim(),
      {
        cause: error,
        hint: 'Is it running, and is registry.url right?',
      },
    )
  }
}

/** A user and password that stand in the address are sent as a login: `fetch` takes none there. */
function placeOf(url: string): { readonly address: string; readonly user: string; readonly secret: string } {
  const place = new URL(url)
  const [user, secret] = [decodeURIComponent(place.username), decodeURIComponent(place.password)]
  place.username = ''
  place.password = ''
  return { address: place.href.replace(/\/+$/, ''), user, secret }
}

const hostOf = (url: string): string => (URL.canParse(url) ? new URL(url).host : '(no address)')

function refuse({ url }: RegistryConfig, status: number, body: Answer['body'], what: string): void {
  if (status < 300) return
  const kind =
    status === 401 || status === 403
      ? 'auth'
      : status === 429
        ? 'throttled'
        : status < 500
          ? 'config'
          : 'unavailable'
  throw new ConnectorError(
    kind,
    `the schema registry ${hostOf(url)}: ${what}: ${status} ${body.message ?? ''}`,
    {
      hint: kind === 'auth' ? 'See registry.username and registry.password.' : 'See the log of the registry.',
    },
  )
}
