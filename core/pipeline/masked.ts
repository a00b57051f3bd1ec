/** Which texts of a configuration are secret, and how it is printed without them. */
import type { z } from 'zod'
import type { Secrets } from '../secrets.ts'
import { mapTexts } from './zod-shape.ts'

const MASK = '***'

/** A database's URL tells more than it hides: only its password is secret. Of http(s) the whole may be (web hooks). */
const isOpenUrl = (text: string): boolean =>
  /^(?!https?:)[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^https?:\/\/[^/@\s]+@/i.test(text)

/** Of `${NAME}`, which nobody fills, people must be told. */
const isPlaceholder = (text: string): boolean => /^\$\{[\w.]+\}$/.test(text)

/** Adds what stands in fields marked `secret`, and the passwords of URLs wherever they stand. */
export function addSecrets(schema: z.core.$ZodType, value: unknown, secrets: Secrets): void {
  mapTexts(schema, value, (text, isSecret) => {
    secrets.addUrls(text)
    if (isSecret && !isOpenUrl(text) && !isPlaceholder(text)) secrets.add(text)
    return text
  })
}

/** A copy to print. `config` is input or output of `schema`; its secrets must have been added. */
export function masked(schema: z.core.$ZodType, config: unknown, secrets: Secrets): unknown {
  return mapTexts(schema, config, (text, isSecret) =>
    isSecret && !isOpenUrl(text) ? MASK : secrets.redact(text),
  )
}
