/** Certificates for servers of tests on loopback and their clients, signed by an authority of our own. */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/** Paths of PEM files. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

export interface Authority {
  /** Path of its own certificate. */
  readonly ca: string
  /** For loopback, by name and number, where nothing else is said. */
  issue(commonName: string, names?: string): Certificate
}

export function makeAuthority(folder: string): Authority {
  mkdirSync(folder, { recursive: true })
  const make = (name: string, ...more: string[]): Certificate => {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`]
    const args = ['req', '-x509', '-nodes', '-days', '3650', ...curve, '-subj', `/CN=${name}`, ...files]
    execFileSync('openssl', [...args, ...more], { cwd: folder, stdio: 'pipe' })
    return { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
  }
  const own = make('authority')
  return {
    ca: own.cert,
    issue(commonName, names = 'DNS:localhost,IP:127.0.0.1') {
      const extensions = [
        `subjectAltName=${names}`,
        'basicConstraints=CA:FALSE',
        'extendedKeyUsage=serverAuth,clientAuth',
      ].flatMap(one => ['-addext', one])
      return make(commonName, '-CA', own.cert, '-CAkey', own.key, ...extensions)
    },
  }
}
