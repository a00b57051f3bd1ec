/** Which partition a key goes to: as Kafka's default partitioner, so that an embedded log and a Kafka topic agree. */

const M = 0x5bd1e995
const R = 24

/** Murmur2, 32 bits, with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2; Austin Appleby's MurmurHash2). Signed. */
export function murmur2(bytes: Uint8Array): number {
  const length = bytes.length
  let h = 0x9747b28c ^ length
  let at = 0
  for (; at + 4 <= length; at += 4) {
    let k = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    k = Math.imul(k, M)
    k ^= k >>> R
    h = Math.imul(h, M) ^ Math.imul(k, M)
  }
  const rest = length - at
  if (rest >= 3) h ^= bytes[at + 2]! << 16
  if (rest >= 2) h ^= bytes[at + 1]! << 8
  if (rest >= 1) h = Math.imul(h ^ bytes[at]!, M)
  h ^= h >>> 13
  h = Math.imul(h, M)
  return (h ^ (h >>> 15)) | 0
}

export const partitionOf = (key: string | Buffer, partitions: number): number =>
  partitions === 1 ? 0 : (murmur2(typeof key === 'string' ? Buffer.from(key) : key) & 0x7fffffff) % partitions
