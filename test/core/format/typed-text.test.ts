/** Types of what comes as text. */
import { describe, expect, it } from 'vitest'
import { FROM_TEXT } from '../../../core/format/typed-text.ts'

describe('types of what comes as text', () => {
  it.each([
    ['bool', 'T', 'true'],
    ['bool', '0', 'false'],
    ['bool', 'maybe', undefined],
    ['int2', '-32768', '-32768'],
    ['int2', '32768', undefined],
    ['int4', '+007', '7'],
    ['int8', '9223372036854775807', '9223372036854775807'],
    ['int8', '9223372036854775808', undefined],
    ['int8', '1.0', undefined],
    ['int8', '', undefined],
    ['float8', '1.50', '1.50'],
    ['float8', '.5', '0.5'],
    ['float8', 'NaN', '"NaN"'],
    ['float8', '1e400', undefined],
    ['float8', '0x10', undefined],
    ['float8', '', undefined],
    ['numeric', '12345678901234567890.10', '"12345678901234567890.10"'],
    ['numeric', '-.5', '"-0.5"'],
    ['numeric', '1.25e3', '"1250"'],
    ['numeric', '1.25e1', '"12.5"'],
    ['numeric', '-125E-4', '"-0.0125"'],
    ['numeric', '00012', '"12"'],
    ['numeric', '1,5', undefined],
    ['numeric', '.', undefined],
    ['numeric', '1e99999', undefined],
    ['json', '{"a": 1}', '{"a": 1}'],
    ['json', '{', undefined],
    ['bytea', '\\xAA00', '"qgA="'],
    ['bytea', 'qgA=', '"qgA="'],
    ['bytea', 'qgA', undefined],
    ['uuid', '00112233-4455-6677-8899-AABBCCDDEEFF', '"00112233-4455-6677-8899-aabbccddeeff"'],
    ['uuid', '0011', undefined],
    ['date', '2024-02-29', '"2024-02-29"'],
    ['date', '2023-02-29', undefined],
    ['time', '10:00', '"10:00"'],
    ['timestamp', '2026-01-31 10:00:00.1200', '"2026-01-31T10:00:00.12"'],
    ['timestamp', '2026-01-31T10:00:00Z', '"2026-01-31T10:00:00"'],
    ['timestamp', '2026-01-31T10:00:00+01:00', undefined],
    ['timestamptz', '2026-01-31T00:30:00.123456789+01:00', '"2026-01-30T23:30:00.123456Z"'],
    ['timestamptz', '2026-01-31 10:00', '"2026-01-31T10:00:00Z"'],
    ['timestamptz', '2026-01-31 10:00:00-0530', '"2026-01-31T15:30:00Z"'],
    ['timestamptz', '2026-01-31 25:00:00', undefined],
    ['timestamptz', 'soon', undefined],
  ] as const)('%s %s', (type, text, json) => {
    expect(FROM_TEXT[type](text)).toBe(json)
    if (json !== undefined) expect(() => JSON.parse(json)).not.toThrow()
  })
})
