/** Whom the API answers. */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Api, startApi } from '../../../core/hub/api.ts'
import type { Hub } from '../../../core/hub/hub.ts'

describe('the API', () => {
  const removed: string[] = []
  let api: Api
  beforeAll(async () => {
    const hub = {
      status: async () => ({ pipelines: [] }),
      remove: async (name: string) => {
        removed.push(name)
        return []
      },
    } as unknown as Hub
    const pages = fileURLToPath(new URL('../../../console', import.meta.url))
    api = await startApi(hub, { host: '127.0.0.1', port: 0, pages })
  })
  afterAll(() => api[Symbol.asyncDispose]())

  const ask = (path: string, method = 'GET', headers: Record<string, string> = {}) =>
    fetch(`${api.url}${path}`, { method, headers })

  it('answers commands and its own page', async () => {
    expect((await ask('/api/status')).status).toBe(200)
    expect((await ask('/')).status).toBe(200)
    expect((await ask('/api/delete?pipeline=own', 'POST', { origin: api.url })).status).toBe(200)
    expect((await ask('/api/delete?pipeline=command', 'POST')).status).toBe(200)
    expect(removed).toEqual(['own', 'command'])
  })

  it('refuses pages of other sites, whatever they ask', async () => {
    removed.length = 0
    for (const origin of [
      'https://example.org',
      'null',
      'http://127.0.0.1:1',
      'http://127.0.0.1.example.org',
    ])
      for (const [path, method] of [
        ['/api/delete?pipeline=shop', 'POST'],
        ['/api/status', 'GET'],
      ] as const) {
        const answer = await ask(path, method, { origin })
        expect(answer.status, `${origin} ${path}`).toBe(403)
        expect(await answer.json()).toMatchObject({ error: expect.stringContaining(origin) })
      }
    expect(removed).toEqual([])
  })
})
