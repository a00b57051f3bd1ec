/** Errors of another copy of Millrace, as a connector may bring it, are what they are. */
import { describe, expect, it } from 'vitest'
import { asConnectorError, ConnectorError, Fenced } from '../../core/errors.ts'

const other = (await import(`${'../../core/errors.ts'}?copy`)) as typeof import('../../core/errors.ts')

describe('errors', () => {
  it('are known by their mark, whichever copy made them', () => {
    expect(other.ConnectorError).not.toBe(ConnectorError)
    const error = new other.ConnectorError('data', 'no', { hint: 'yes' })
    expect(asConnectorError(error)).toBe(error)
    expect(new other.Fenced('late', 7)).toBeInstanceOf(Fenced)
  })

  it('of a further class are known as that one only', () => {
    class Special extends ConnectorError {}
    expect(new Special('data', 'no')).toBeInstanceOf(ConnectorError)
    expect(new Special('data', 'no')).toBeInstanceOf(Special)
    expect(new ConnectorError('data', 'no')).not.toBeInstanceOf(Special)
  })

  it('are not taken for each other, nor anything else for them', () => {
    expect(new other.Fenced('late')).not.toBeInstanceOf(ConnectorError)
    expect(new other.ConnectorError('data', 'no')).not.toBeInstanceOf(Fenced)
    for (const thing of [new Error('no'), { kind: 'data', message: 'no' }, 'no', null, undefined]) {
      expect(thing instanceof ConnectorError, String(thing)).toBe(false)
      expect(thing instanceof Fenced, String(thing)).toBe(false)
    }
    expect(asConnectorError(new TypeError('no')).kind).toBe('bug')
  })
})
