/**
 * Loaded into a process in front of the program (`node --import`): counts what its Kafka client sends, by the key of the request, which
 * stands behind the length (https://kafka.apache.org/protocol). On SIGUSR2 the counts go to a file of the folder that is named.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'

const { BENCH_KAFKA_PORT: port, BENCH_KAFKA_FOLDER: folder } = process.env
const counts = new Map<number, number>()
const write = Socket.prototype.write
Socket.prototype.write = function (this: Socket, ...given: Parameters<typeof write>) {
  const [bytes] = given
  if (this.remotePort === Number(port) && bytes instanceof Uint8Array && bytes.length > 8) {
    const key = bytes[4]! * 256 + bytes[5]!
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return write.apply(this, given)
} as typeof write

process.on('SIGUSR2', () => {
  const path = join(folder!, String(process.pid))
  writeFileSync(`${path}.part`, JSON.stringify(Object.fromEntries(counts)))
  renameSync(`${path}.part`, path)
})
