/** docs/scale-out.md, as its reader does it: its files written, its commands run, and after each step the index is the database. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openShop, type Shop } from '../../../connectors/postgres/shop.ts'
import { readDocuments } from '../../../connectors/sqlite/documents.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { newFolder, type Running, until } from './program.ts'

const missing = missingForKafka() ?? missingForRedis()
const PAGE = readFileSync(new URL('../../../docs/scale-out.md', import.meta.url), 'utf8')

interface Block {
  readonly language: string
  readonly text: string
}
const blocksOf = (section: string): Block[] =>
  [...section.matchAll(/```(yaml|sh)\n([^`]*)```/g)].map(([, language, text]) => ({
    language: language!,
    text: text!,
  }))

describe.skipIf(missing !== null)(
  missing === null ? 'docs/scale-out.md' : `docs/scale-out.md: ${missing}`,
  () => {
    let kafka: KafkaCluster
    let redis: RedisServer
    let postgres: PostgresServer
    let shop: Shop
    beforeAll(async () => {
      ;[kafka, redis, postgres] = await Promise.all([startKafka(), startRedis(), startPostgres()])
      shop = await openShop(postgres.url, 500)
      await shop.prepare()
    })
    afterAll(async () => {
      await shop?.[Symbol.asyncDispose]()
      for (const server of [kafka, redis, postgres]) await server?.[Symbol.asyncDispose]()
    })

    it('walks from one process to a hub and four workers', async () => {
      using folder = newFolder()
      const sections = PAGE.split('\n## ').slice(1)
      expect(sections.map(text => text.split('\n')[0])).toEqual([
        'One process',
        'The log on Kafka',
        'A hub and four workers',
      ])
      let changes = 0
      for (const section of sections) {
        const title = section.split('\n')[0]!
        const running: Running[] = []
        for (const { language, text } of blocksOf(section))
          if (language === 'yaml') {
            const [, name] = /^# (\S+)/.exec(text)!
            folder.write(
              name!,
              text.replace('kafka:9092', kafka.bootstrap[0]!).replace('redis://redis:6379', redis.url),
            )
          } else
            for (const line of text.trim().split('\n')) {
              if (line === 'rm -f shop.db*') {
                for (const end of ['', '-wal', '-shm'])
                  rmSync(join(folder.path, `shop.db${end}`), { force: true })
                continue
              }
              const [, command, background] = /^millrace (.*?)( &)?$/.exec(line)!
              const args = command!.split(' ')
              const env = { DATABASE_URL: postgres.url }
              if (background)
                running.push(
                  folder.start(['up', 'hub'].includes(args[0]!) ? [...args, '--port', '0'] : args, env),
                )
              else {
                if (args[0] === 'status')
                  await until(async () => (await folder.run(args, env)).stdout.includes('shop/source'), line)
                const { code, stderr } = await folder.run(args, env)
                expect(code, `${line}: ${stderr}`).toBe(0)
              }
            }
        for (let i = 0; i < 50; i++) await shop.change(++changes)
        await until(() => isLevel(folder.path, shop), `${title}: the index is the database`, 90_000).catch(
          error => {
            throw new Error(`${error.message}\n${running.map(one => one.stderr().slice(-3_000)).join('\n')}`)
          },
        )
        if (running.length > 1) {
          // A hub that comes back finds its pipeline running, its slot in use, and says neither that it failed.
          const [hub] = running.splice(0, 1)
          hub!.child.kill('SIGKILL')
          await hub!.ended
          running.push(folder.start(['hub', '--port', '0'], { DATABASE_URL: postgres.url }))
          const stateNow = async () =>
            JSON.parse((await folder.run(['status', '--json'])).stdout || '{}').pipelines?.[0]?.state
          await until(async () => (await stateNow()) === 'following', 'following after the hub came back')
        }
        for (const one of running) one.child.kill('SIGTERM')
        for (const one of running) expect(await one.ended, title).toMatchObject({ code: 0 })
      }
    }, 300_000)
  },
)

async function isLevel(folder: string, shop: Shop): Promise<boolean> {
  for (const table of shop.tables) {
    const expected = await shop.expected(table)
    try {
      const found = readDocuments(join(folder, 'shop.db'), table)
      if (found.size !== expected.size) return false
      for (const [id, document] of found)
        if (JSON.stringify(sorted(document)) !== JSON.stringify(sorted(expected.get(id) ?? 'null')))
          return false
    } catch {
      return false // not made yet, or locked
    }
  }
  return true
}

const sorted = (text: string): unknown => {
  const value: unknown = JSON.parse(text)
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.entries(value)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, one]) => [key, sorted(JSON.stringify(one))])
    : value
}
