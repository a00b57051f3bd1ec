/** What a log on Kafka is told, beside what its client is told; the names of what it has there. */
import type { ClusterSettings } from '../../kafka/settings.ts'

export interface KafkaSettings extends ClusterSettings {
  /** In front of every topic's name. A topic of another hub is refused. */
  readonly topicPrefix: string
  /** Of topics that are made, by Kafka's names. */
  readonly topicConfig: Readonly<Record<string, string>>
}

/** The names a hub uses on a cluster: all of them begin with its own, so that one prefixed ACL allows them. */
export const transactionalId = ({ hub }: KafkaSettings, task: string): string => `${hub}.${task}`
export const groupOf = ({ hub }: KafkaSettings, pipeline: string, sink: string): string =>
  `${hub}.${pipeline}.${sink}`
export const offsetsTopic = ({ topicPrefix }: KafkaSettings, pipeline: string): string =>
  `${topicPrefix}${pipeline}.offsets`
export const deadLetterTopic = ({ topicPrefix }: KafkaSettings, pipeline: string): string =>
  `${topicPrefix}${pipeline}.dead`
