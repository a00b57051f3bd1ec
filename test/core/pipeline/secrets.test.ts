/** A secret does not come out in any of the forms in which it may stand, and nothing else is taken for one. */
import { describe, expect, it } from 'vitest'
import { Secrets } from '../../../core/secrets.ts'
import { randomOf } from '../../sim/random.ts'

const keeping = (...all: string[]): Secrets => {
  const secrets = new Secrets()
  for (const one of all) secrets.add(one)
  return secrets
}

describe('redact', () => {
  it.each([
    'hunter22',
    'p@ss/w:rd?#[]',
    'with "quotes" and \\ backslash',
    'a.b*c+d(e)f|g^h$i{j}',
    'spaces in it',
    'Grüße 😀 日本',
    'line one\nline two\twith tab',
    '%2Falready%20encoded',
    "it's!~*'()",
  ])('hides %j in every form', secret => {
    const secrets = keeping(secret)
    const url = new URL('x://host')
    url.password = secret
    const forms = [
      secret,
      encodeURIComponent(secret),
      encodeURIComponent(secret).replace(/%../g, hex => hex.toLowerCase()),
      url.password,
      new URLSearchParams({ x: secret }).toString().slice(2),
      JSON.stringify(secret).slice(1, -1),
      JSON.stringify(JSON.stringify(secret)).slice(3, -3),
    ]
    for (const form of forms) expect(secrets.redact(`<<${form}>> ${form}`), form).toBe('<<***>> ***')
  })

  it('hides the longer of two that begin alike', () => {
    expect(keeping('abcd', 'abcdefgh').redact('abcdefgh abcd')).toBe('*** ***')
  })

  it('hides lines of a secret of many lines', () => {
    const secrets = keeping('-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0B\nshort\n-----END KEY-----')
    expect(secrets.redact('bad line MIIBVgIBADANBgkqhkiG9w0B')).toBe('bad line ***')
    expect(secrets.redact('a short -----BEGIN KEY-----')).toBe('a short -----BEGIN KEY-----')
  })

  it('hides the password of any URL, known or not', () => {
    const secrets = new Secrets()
    expect(secrets.redact('at postgres://me:unknown@h/db and redis://:other@r')).toBe(
      'at postgres://me:***@h/db and redis://:***@r',
    )
    expect(secrets.redact('http://localhost:4000/a@b and c:d@e')).toBe('http://localhost:4000/a@b and c:d@e')
  })

  it('replaces a short or common one only where a password stands', () => {
    const secrets = keeping('abc', 'postgres')
    for (const text of ['abc', 'type postgres', '{"key":"abc1"}', 'password=abcdef', 'postgres://postgres@h'])
      expect(secrets.redact(text)).toBe(text)
    expect(
      secrets.redact('password=abc, "password":"abc", {\\"password\\":\\"postgres\\"} x://u:abc@h'),
    ).toBe('password=***, "password":"***", {\\"password\\":\\"***\\"} x://u:***@h')
  })

  it('knows the passwords of a URL, decoded and not, and secrets among its parameters', () => {
    const secrets = new Secrets()
    secrets.addUrls('amqp://u:pa%24%24word@h/?sslpassword=t0psecret&application_name=shop')
    expect(secrets.redact('pa$$word pa%24%24word t0psecret shop')).toBe('*** *** *** shop')
  })

  it('does not take the name of a database for a secret because it is also the password', () => {
    const secrets = new Secrets()
    secrets.addUrls('postgres://shop:shopdb@warehouse/shopdb')
    expect(secrets.redact('database shopdb of postgres://shop:shopdb@warehouse/shopdb')).toBe(
      'database shopdb of postgres://shop:***@warehouse/shopdb',
    )
  })

  it('leaves text alone when there is nothing to hide', () => {
    expect(keeping('', '  ').redact('a  b')).toBe('a  b')
  })

  it('keeps no part of random secrets in random text', () => {
    const random = randomOf(7)
    const alphabet = 'abcXYZ019%/:@"\\\n +.*$&é😀'
    const letters = [...alphabet]
    for (let round = 0; round < 300; round++) {
      const make = (length: number) => Array.from({ length }, () => random.pick(letters)).join('')
      const secret = make(random.int(6, 20))
      if (secret.trim() === '') continue
      const secrets = keeping(secret)
      for (const form of [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)])
        expect(secrets.redact(`${make(5)}|${form}|${make(5)}`), JSON.stringify(secret)).not.toContain(form)
    }
  })
})
