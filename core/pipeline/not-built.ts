/**
 * What the design names and is not built yet: refused by that name, so that nobody hunts for a slip of the pen. An entry goes
 * when the thing comes.
 */

/** By place (list indexes as `[]`; the file's top is ''). */
export interface NotBuilt {
  readonly keys: Readonly<Record<string, readonly string[]>>
  readonly values: Readonly<Record<string, readonly string[]>>
}

const STEP_KEYS = ['when', 'filter', 'set', 'route', 'cast', 'flatten', 'compute', 'lookup']
const SOURCES = ['mysql', 'mariadb', 'mongodb', 'http']
const SINKS = ['http', 'mongodb']

export const PIPELINE_NOT_BUILT: NotBuilt = {
  keys: {
    '': ['documents'],
    log: ['topic'],
    limits: ['wal_bytes'],
    'source.transforms[]': STEP_KEYS,
    'transforms[]': STEP_KEYS,
    'sinks[].transforms[]': STEP_KEYS,
  },
  values: {
    'source.type': SOURCES,
    'source.on_offset_lost': ['resnapshot'],
    'sinks[].type': SINKS,
    'limits.policy': ['drop_and_resnapshot'],
  },
}

export const HUB_NOT_BUILT: NotBuilt = {
  keys: {
    '': ['alerts', 'auth', 'metrics', 'documents'],
    api: ['tls', 'auth', 'token'],
    queue: ['prefix'],
  },
  values: {},
}

export const placeOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (place, key) =>
      typeof key === 'number' ? `${place}[]` : place === '' ? String(key) : `${place}.${String(key)}`,
    '',
  )
