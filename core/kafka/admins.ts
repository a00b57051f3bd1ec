/**
 * The administrative client, made anew after each failure: the library's own keeps asking for every topic it was ever asked about, so
 * that one that is gone fails all that comes behind.
 */
import type { Admin, Kafka } from 'kafkajs'
import type { Clock } from '../connector.ts'
import { kafkaError, typeOf } from './error.ts'

export interface Admins extends AsyncDisposable {
  /** `what`: for messages, "making topics a, b". Throws what kafkaError makes of it. */
  use<T>(what: string, work: (admin: Admin) => Promise<T>): Promise<T>
}

/**
 * Known before it is led: right after a topic was made, and while its leader changes, the broker that is asked answers so for a moment.
 * The client asks again of its own accord elsewhere, and not for the ends of partitions.
 */
const NO_LEADER = 'NOT_LEADER_FOR_PARTITION'
const NO_LEADER_ATTEMPTS = 10
const NO_LEADER_PAUSE_MS = 50

export function openAdmins(kafka: Kafka, clock: Clock): Admins {
  let current: Promise<Admin> | null = null
  const connected = async (): Promise<Admin> => {
    const admin = kafka.admin()
    try {
      await admin.connect()
      return admin
    } catch (error) {
      await admin.disconnect().catch(() => {})
      throw error
    }
  }
  const drop = (failed: Promise<Admin>) => {
    if (current === failed) current = null
    void failed.then(admin => admin.disconnect()).catch(() => {})
  }
  return {
    async use(what, work) {
      for (let attempt = 1; ; attempt++) {
        current ??= connected()
        const admin = current
        try {
          return await work(await admin)
        } catch (error) {
          drop(admin)
          const type = typeOf(error)
          if (type === NO_LEADER && attempt < NO_LEADER_ATTEMPTS)
            await clock.sleep(attempt * NO_LEADER_PAUSE_MS)
          // It may be one that was asked about earlier.
          else if (attempt > 1 || type !== 'UNKNOWN_TOPIC_OR_PARTITION') throw kafkaError(error, what)
        }
      }
    },
    async [Symbol.asyncDispose]() {
      const admin = await current?.catch(() => null)
      current = null
      await admin?.disconnect()
    },
  }
}
