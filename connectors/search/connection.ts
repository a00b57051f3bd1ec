/** Options of a connection that both clients have, and what their errors are to us. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { ConnectorError } from '../../core/errors.ts'

export const connection = {
  url: z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1)], {
      error: 'must be an address, or a list of them',
    })
    .meta({
      title: 'URL',
      description: 'https://host:9200, or a list of the cluster’s nodes; user and password may stand in it.',
    }),
  username: z.string().min(1).optional().meta({ title: 'User', description: 'For basic authentication.' }),
  password: z
    .string()
    .optional()
    .meta({ title: 'Password', description: 'For basic authentication.', secret: true }),
  ca: z.string().min(1).optional().meta({
    title: 'CA',
    description: 'A PEM file with the certificate of the authority that signed the cluster’s.',
  }),
  compress: z.boolean().default(false).meta({
    title: 'Compress',
    description: 'Send requests gzipped: less on the wire, more processor time.',
  }),
} as const

const connectionSchema = z.strictObject(connection)
export type ConnectionConfig = z.output<typeof connectionSchema>

export interface Endpoint {
  /** Without user and password. */
  readonly nodes: readonly string[]
  readonly auth: { readonly username: string; readonly password: string } | null
  readonly ca: string | null
}

const plainUrl = (url: URL): string => `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`

/** Throws `config` for an address that is none, and a certificate that cannot be read. */
export function endpointOf({ url, username, password, ca }: ConnectionConfig): Endpoint {
  const urls = [url].flat().map(one => {
    const parsed = URL.canParse(one) ? new URL(one) : null
    if (!parsed || !/^https?:$/.test(parsed.protocol))
      throw new ConnectorError('config', 'the address of the cluster must begin with http:// or https://', {
        hint: 'As https://localhost:9200.',
      })
    return parsed
  })
  const withUser = urls.find(one => one.username !== '')
  const auth =
    username !== undefined
      ? { username, password: password ?? '' }
      : withUser
        ? { username: decodeURIComponent(withUser.username), password: decodeURIComponent(withUser.password) }
        : null
  return { nodes: urls.map(plainUrl), auth, ca: ca === undefined ? null : readCertificate(ca) }
}

function readCertificate(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConnectorError(
      'config',
      `the certificate ${path} cannot be read: ${(error as Error).message}`,
      {
        cause: error,
        hint: '`ca` is the path of a PEM file.',
      },
    )
  }
}

export const targetText = ({ url }: ConnectionConfig): string =>
  [url]
    .flat()
    .map(one => (URL.canParse(one) ? plainUrl(new URL(one)) : '(no address)'))
    .join(',')

const CERTIFICATE = /self.signed|unable to (get|verify)|certificate|ERR_TLS|UNABLE_TO_/i

/** What a client threw because no answer came. */
export function connectionError(product: string, target: string, thrown: unknown): ConnectorError {
  const error = thrown as Error & { code?: string; cause?: unknown }
  const cause = error.cause instanceof Error ? error.cause.message : ''
  const said = [error.name, error.message, cause].filter(text => text && text !== 'Error').join(': ')
  const message = `${product} ${target} does not answer: ${said}`
  return CERTIFICATE.test(said)
    ? new ConnectorError('unavailable', message, {
        cause: thrown,
        hint: 'Its certificate is not trusted here: name the authority’s PEM file under `ca`.',
      })
    : new ConnectorError('unavailable', message, {
        cause: thrown,
        hint: 'Is it running, and is the address right?',
      })
}
