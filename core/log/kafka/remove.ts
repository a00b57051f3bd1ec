/** `millrace delete`: topics and groups of a pipeline. The catalog goes last, so that it can be said again when something failed. */
import type { Clock, Log } from '../../connector.ts'
import { openAdmins } from '../../kafka/admins.ts'
import { type Admin, kafkaClient } from '../../kafka/client.ts'
import { openCatalog } from './catalog.ts'
import { deadLetterTopic, groupOf, type KafkaSettings, offsetsTopic } from './settings.ts'

export interface RemoveOptions {
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly log: Log
  readonly pipeline: string
  readonly sinks: readonly string[]
}

export async function removeKafkaLog(options: RemoveOptions): Promise<readonly string[]> {
  const { settings, clock, log, pipeline, sinks } = options
  const kafka = kafkaClient(settings, log)
  const admins = openAdmins(kafka, clock)
  const topic = offsetsTopic(settings, pipeline)
  const what = `removing the log of ${pipeline}`
  try {
    const there = new Set(await admins.use(what, admin => admin.listTopics()))
    if (!there.has(topic)) return []
    const catalog = openCatalog({ kafka, admins, settings, clock, log, topic })
    await catalog.refresh().finally(() => catalog[Symbol.asyncDispose]())
    const groups = sinks.map(sink => groupOf(settings, pipeline, sink))
    await admins.use(what, admin => removeGroups(admin, groups, clock))
    const topics = [...catalog.topics, deadLetterTopic(settings, pipeline)].filter(one => there.has(one))
    await admins.use(what, async admin => {
      if (topics.length > 0) await admin.deleteTopics({ topics })
      await admin.deleteTopics({ topics: [topic] })
    })
    return [...topics, topic].map(one => `topic ${one}`)
  } finally {
    await admins[Symbol.asyncDispose]()
  }
}

/** Those that nobody ever committed to are not there. */
async function removeGroups(admin: Admin, groups: readonly string[], clock: Clock): Promise<void> {
  const known = new Set((await admin.listGroups()).groups.map(one => one.groupId))
  const there = groups.filter(group => known.has(group))
  if (there.length === 0) return
  // The coordinator of a group that was just used may be asked too early.
  for (let attempt = 1; ; attempt++)
    try {
      await admin.deleteGroups(there)
      return
    } catch (error) {
      if (attempt === 5) throw error
      await clock.sleep(200)
    }
}
