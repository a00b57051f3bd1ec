/** What OpenSearch's security plugin wants before it starts: certificates of an authority of our own, and one user. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

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
  makeCertificates(config)
  const ssl = 'plugins.security.ssl'
  const pems = (layer: string) => ({
    [`${ssl}.${layer}.pemcert_filepath`]: 'node.pem',
    [`${ssl}.${layer}.pemkey_filepath`]: 'node.key',
    [`${ssl}.${layer}.pemtrustedcas_filepath`]: 'ca.pem',
  })
  return {
    ca: join(config, 'ca.pem'),
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

function makeCertificates(folder: string): void {
  const request = (name: string, subject: string, ...more: string[]) =>
    execFileSync(
      'openssl',
      [
        ...[
          'req',
          '-x509',
          '-nodes',
          '-days',
          '3650',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:P-256',
        ],
        ...['-subj', subject, '-keyout', `${name}.key`, '-out', `${name}.pem`, ...more],
      ],
      { cwd: folder, stdio: 'pipe' },
    )
  request('ca', '/CN=millrace-test-authority')
  request(
    ...(['node', '/CN=node-1', '-CA', 'ca.pem', '-CAkey', 'ca.key'] as const),
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    ...['-addext', 'basicConstraints=CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
  )
}
