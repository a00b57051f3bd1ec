/** What OpenSearch's security plugin wants before it starts: certificates of an authority of our own, and one user. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { makeAuthority } from './certificates.ts'

export const USERNAME = 'admin'
export const PASSWORD = 'admin'
const BCRYPT = '$2a$12$VcCDgh2NDk07JGN0rjGbM.Ad41qVR/YFJcgHp0UGns5JDymv..TOG'

export interface Secured {
  /** Path of the authority's certificate. */
  readonly ca: string
  readonly settings: Readonly<Record<string, string>>
}

export function secure(home: string, pluginConfig: string): Secured {
  const config = join(home, 'config')
  mkdirSync(config)
  cpSync(pluginConfig, join(config, 'opensearch-security'), { recursive: true })
  const users = {
    _meta: { type: 'internalusers', config_version: 2 },
    [USERNAME]: { hash: BCRYPT, reserved: true, backend_roles: ['admin'] },
  }
  // JSON is YAML.
  writeFileSync(join(config, 'opensearch-security', 'internal_users.yml'), JSON.stringify(users))
  const authority = makeAuthority(config)
  const node = authority.issue('node-1')
  const ssl = 'plugins.security.ssl'
  const pems = (layer: string) => ({
    [`${ssl}.${layer}.pemcert_filepath`]: basename(node.cert),
    [`${ssl}.${layer}.pemkey_filepath`]: basename(node.key),
    [`${ssl}.${layer}.pemtrustedcas_filepath`]: basename(authority.ca),
  })
  return {
    ca: authority.ca,
    settings: {
      ...pems('transport'),
      ...pems('http'),
      [`${ssl}.http.enabled`]: 'true',
      [`${ssl}.transport.enforce_hostname_verification`]: 'false',
      'plugins.security.allow_default_init_securityindex': 'true',
      'plugins.security.nodes_dn': 'CN=node-1',
      'plugins.security.authcz.admin_dn': 'CN=nobody',
    },
  }
}
