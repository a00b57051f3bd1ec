// Compiles every TypeScript file into dist/ (the same tree), and nothing else: no bundler, so a stack trace names the file.
// Runs as `prepare`, so that `npm ci` alone leaves a working `millrace`.
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsc = `${root}node_modules/typescript/bin/tsc`
if (!existsSync(tsc)) {
  console.error('build: TypeScript is not installed (npm ci --omit=dev?); dist/ is left as it is')
  process.exit(existsSync(`${root}dist/core/cli/main.js`) ? 0 : 1)
}
rmSync(`${root}dist`, { recursive: true, force: true })
const compiled = project =>
  spawnSync(process.execPath, [tsc, '-p', `${root}${project}`], { stdio: 'inherit' }).status ?? 1
// Declarations are for those who write connectors: of what the package exports, and of nothing else. The image is built without.
const projects = ['tsconfig.json', 'tsconfig.types.json'].filter(one => existsSync(`${root}${one}`))
process.exit(projects.reduce((failed, project) => failed || compiled(project), 0))
