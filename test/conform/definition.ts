/** What every connector's definition must keep, source or sink: names, documentation, examples, required fields. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { Sink, Source } from '../../core/connector.ts'

export function definitionConformance(connector: Source | Sink): void {
  describe(`${connector.name}: definition`, () => {
    it('is named as the field names it, and says in a sentence what it does', () => {
      expect(connector.name).toMatch(/^[a-z][a-z0-9]*$/)
      expect(connector.summary).toMatch(/^[A-Z].*\.$/)
    })

    it('documents each field with a title and a description', () => {
      for (const [field, schema] of Object.entries(connector.config.shape)) {
        const meta = (schema as z.ZodType).meta() ?? {}
        expect(meta.title, `${field} has a title`).toBeTruthy()
        expect(meta.description, `${field} has a description`).toBeTruthy()
        expect(field, 'units last, snake case').toMatch(/^[a-z][a-z0-9_]*$/)
      }
    })

    it('generates a JSON Schema', () => {
      expect(z.toJSONSchema(connector.config, { io: 'input' })).toMatchObject({
        type: 'object',
        additionalProperties: false,
      })
    })

    it('accepts its examples, and refuses each without any one required field', () => {
      expect(connector.examples.length).toBeGreaterThan(0)
      for (const { title, config } of connector.examples) {
        expect(title).toBeTruthy()
        expect(connector.config.safeParse(config).success, title).toBe(true)
        for (const [field, schema] of Object.entries(connector.config.shape)) {
          if (!(field in config) || (schema as z.ZodType).safeParse(undefined).success) continue
          const { [field]: _, ...rest } = config as Record<string, unknown>
          expect(connector.config.safeParse(rest).success, `${title} without ${field}`).toBe(false)
        }
      }
    })

    it('refuses a key it does not know', () => {
      const config = { ...connector.examples[0]!.config, no_such_key: 1 }
      expect(connector.config.safeParse(config).success).toBe(false)
    })
  })
}
