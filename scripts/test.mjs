// `npm test`: everything. Format, types and build, then every test file; what this machine cannot run is skipped by name,
// loudly and counted; under CI nothing may be skipped. Fails when tests vanish: test/floor.json holds the fewest there may be.
// The last line is "N passed, N failed[, N skipped]".
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const bin = name => join(root, 'node_modules', '.bin', name)
const step = (title, command, args) => {
  console.log(`\n== ${title}`)
  return spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0
}

const steps = [
  ['format and lint', bin('biome'), ['ci', '.']],
  ['build (types)', process.execPath, ['scripts/build.mjs']],
]
const results = steps.map(([title, command, args]) => [title, step(title, command, args)])

const folder = mkdtempSync(join(tmpdir(), 'millrace-test-'))
const report = join(folder, 'report.json')
const passing = process.argv.slice(2)
step('tests', bin('vitest'), [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...passing,
])

const ESCAPES = /\u001b\[[0-9;]*m/g
const shortly = (messages = []) =>
  messages
    .map(text =>
      text
        .replace(ESCAPES, '')
        .split(/\n\s+at /)[0]
        .slice(0, 4_000),
    )
    .map(text => `\n      ${text.replaceAll('\n', '\n      ')}`)
    .join('')

const tests = []
try {
  for (const file of JSON.parse(readFileSync(report, 'utf8')).testResults) {
    const name = file.name.replace(root, '')
    for (const one of file.assertionResults)
      tests.push({ name: `${name}: ${one.fullName}`, status: one.status, why: shortly(one.failureMessages) })
    // A file that cannot even be loaded has no tests to fail.
    if (file.status === 'failed' && !file.assertionResults.some(one => one.status === 'failed'))
      tests.push({ name, status: 'failed' })
  }
} catch (error) {
  console.error(`test: there is no report of the test run: ${error.message}`)
  tests.push({ name: 'report', status: 'failed' })
}
rmSync(folder, { recursive: true })
for (const [title, ok] of results) tests.push({ name: title, status: ok ? 'passed' : 'failed' })

const of = status => tests.filter(one => one.status === status)
const passed = of('passed')
const skipped = tests.filter(one => one.status !== 'passed' && one.status !== 'failed')
const failed = of('failed')
if (skipped.length > 0) {
  console.log(
    `\nSKIPPED, for this machine lacks what they need:\n${skipped.map(one => `  ${one.name}`).join('\n')}`,
  )
  if (process.env.CI) failed.push({ name: `under CI nothing may be skipped, and ${skipped.length} were` })
}
const { fewest } = JSON.parse(readFileSync(join(root, 'test', 'floor.json'), 'utf8'))
if (passing.length === 0 && tests.length < fewest)
  failed.push({ name: `${tests.length} tests ran, and there were ${fewest}: tests have vanished` })
// With the reason: who reads only the end of what was printed should know more than a name.
if (failed.length > 0)
  console.log(`\nFAILED:\n${failed.map(one => `  ${one.name}${one.why ?? ''}`).join('\n')}`)
console.log(
  `\n${passed.length} passed, ${failed.length} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`,
)
process.exit(failed.length > 0 ? 1 : 0)
