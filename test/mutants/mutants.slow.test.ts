/** A test that cannot fail proves nothing: each planted bug must be found by the simulation that should find it. */
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MUTANTS, type Mutant } from './list.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SEEDS = { sim: 600, fleet: 150, handoff: 800 } as const
let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-mutants-'))
  mkdirSync(join(folder, 'dist'))
  for (const part of ['core', 'connectors', 'test'])
    cpSync(join(ROOT, 'dist', part), join(folder, 'dist', part), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function plant({ file, text, by, name, also }: Mutant): () => void {
  let source = readFileSync(join(ROOT, file), 'utf8')
  for (const edit of [{ text, by }, ...(also ? [also] : [])]) {
    if (!source.includes(edit.text))
      throw new Error(`"${name}": ${file} no longer holds the text that is to be changed`)
    source = source.replace(edit.text, () => edit.by)
  }
  const options = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
  }
  const { outputText } = ts.transpileModule(
    source.replace(text, () => by),
    { compilerOptions: options },
  )
  const path = join(folder, 'dist', file.replace(/\.ts$/, '.js'))
  const before = readFileSync(path)
  writeFileSync(path, outputText)
  return () => writeFileSync(path, before)
}

const hunt = (which: Mutant['found']): Promise<{ code: number | null; said: string }> =>
  new Promise(resolve => {
    const child = spawn(
      process.execPath,
      ['--no-warnings', join(folder, 'dist/test/mutants/hunt.js'), which, String(SEEDS[which])],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    let said = ''
    child.stdout.on('data', text => (said += text))
    child.stderr.on('data', text => (said += text))
    child.on('close', code => resolve({ code, said }))
  })

describe('planted bugs', () => {
  for (const which of ['sim', 'fleet', 'handoff'] as const)
    it(`${which} finds nothing in the code as it is`, async () => {
      const { code, said } = await hunt(which)
      expect(said).toBe('')
      expect(code).toBe(0)
    })

  for (const mutant of MUTANTS)
    it(`${mutant.found} finds: ${mutant.name}`, async () => {
      const heal = plant(mutant)
      try {
        const { code, said } = await hunt(mutant.found)
        expect(code, said === '' ? 'no seed found it' : said).toBe(1)
      } finally {
        heal()
      }
    })
})
