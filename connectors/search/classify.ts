/** What becomes of an operation or of a whole request, by what the cluster said. Pure. */
import { ConnectorError } from '../../core/errors.ts'
import { isBlocked, type Told } from './client.ts'

export type Outcome =
  /** Done; or there was nothing to delete. */
  | 'done'
  /** Something newer stands there (V4). */
  | 'refused'
  /** The cluster pushes back: the same again, later and with less at once. */
  | 'later'
  /** Too large to be taken at once. */
  | 'split'
  /** This one never will be taken. */
  | 'bad'
  /** The name is known no more: a newer owner took it (fence.ts), or somebody removed the index. */
  | 'gone'
  /** None will be, until a person acts. */
  | 'stop'

/** Errors that say "not now", whatever their status. */
const NOT_NOW =
  /^(es_|opensearch_)?rejected_execution_exception$|^circuit_breaking_exception$|^unavailable_shards_exception$|^no_shard_available_action_exception$|^process_cluster_event_timeout_exception$|^cluster_manager_not_discovered_exception$|^master_not_discovered_exception$|^node_(closed|disconnected|not_connected)_exception$|^receive_timeout_transport_exception$|^primary_missing_action_exception$|^retry_on_primary_exception$|^index_closed_exception$/

/** One item of a bulk's answer. */
export function itemOutcome(status: number, { type, reason }: Told): Outcome {
  if (status < 300) return 'done'
  if (type === '' && status === 404) return 'done' // a delete of what is not there; the cluster remembers it all the same
  if (type === 'version_conflict_engine_exception') return 'refused'
  // The second: of a delete, which would make the index.
  if (type === 'index_not_found_exception' || type === 'invalid_index_name_exception') return 'gone'
  if (isBlocked(type, reason) || NOT_NOW.test(type) || [429, 502, 503, 504].includes(status)) return 'later'
  if (status === 401 || status === 403 || type === 'security_exception') return 'stop'
  if (/^pipeline with id \[/.test(reason)) return 'stop'
  // 500 is what a processor of an ingest pipeline says of a document, too: it is this one's fault as long as others pass.
  return 'bad'
}

/** A request as a whole that was not answered with items. */
export function requestOutcome(status: number, { type, reason }: Told): Outcome {
  if (status === 413) return 'split'
  if (isBlocked(type, reason) || NOT_NOW.test(type) || [408, 429, 502, 503, 504].includes(status))
    return 'later'
  return 'stop'
}

const HINTS: readonly (readonly [RegExp, string])[] = [
  [
    /strict_dynamic_mapping_exception/,
    'The document has a field that the index does not know: was the index made by somebody else, or changed?',
  ],
  [/Limit of (total fields|mapping depth)/i, 'Raise `mapping.max_fields`, or drop columns.'],
]

export function badRecord(place: string, status: number, { type, reason }: Told): ConnectorError {
  const hint = HINTS.find(([pattern]) => pattern.test(type) || pattern.test(reason))?.[1]
  return new ConnectorError(
    'data',
    `${place}: ${status} ${type}: ${reason}`,
    hint === undefined ? {} : { hint },
  )
}
