/** Workers that come and go, as their users run them: only the tasks that must move move (L3). Who ran what is read from what the workers say. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { type Folder, newFolder, type Running, until } from './program.ts'

const missing = missingForKafka() ?? missingForRedis()
const PIPELINE = (name: string) => `name: ${name}
source: { type: generate, rows: 10, changes: 1000000, rate: 5 }
log: { partitions: 1 }
sinks:
  - { name: index, type: sqlite, path: ${name}.db }
`
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']
/** How often a worker was handed a task. */
const takenBy = (worker: Running): number => worker.stderr().split('is run here').length - 1
const handedBackBy = (worker: Running): number => worker.stderr().split('is handed back').length - 1

describe.skipIf(missing !== null)(
  missing === null ? 'the share of a worker' : `the share of a worker: ${missing}`,
  () => {
    let cluster: KafkaCluster
    let redis: RedisServer
    beforeAll(async () => {
      ;[cluster, redis] = await Promise.all([startKafka(), startRedis()])
    })
    afterAll(async () => {
      await cluster?.[Symbol.asyncDispose]()
      await redis?.[Symbol.asyncDispose]()
    })

    const write = (folder: Folder, name: string) => {
      // Long leases: a machine that is busy for seconds must not move tasks by itself.
      folder.write(
        'hub.yaml',
        `name: ${name}
log: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }
queue: { type: bullmq, url: "${redis.url}", lock_ms: 30000 }
`,
      )
      for (const one of NAMES) folder.write(`pipelines/${one}.yaml`, PIPELINE(`${name}-${one}`))
    }
    /** Tasks that run, by the worker's pid. */
    const spread = async (folder: Folder): Promise<ReadonlyMap<number, readonly string[]>> => {
      const { stdout } = await folder.run(['status', '--json'])
      const pipelines: { tasks: { name: string; state: string; worker: string | null }[] }[] =
        JSON.parse(stdout || '{}').pipelines ?? []
      const found = new Map<number, string[]>()
      for (const { name, state, worker } of pipelines.flatMap(one => one.tasks)) {
        if (state !== 'running' || worker === null) continue
        const pid = Number(worker.slice(worker.lastIndexOf('/') + 1))
        found.set(pid, [...(found.get(pid) ?? []), name])
      }
      return found
    }
    const counts = async (folder: Folder, workers: readonly Running[]) => {
      const found = await spread(folder)
      return workers.map(one => found.get(one.child.pid!)?.length ?? 0)
    }
    const areSpread = (folder: Folder, workers: readonly Running[], as: readonly number[]) =>
      until(
        async () => (await counts(folder, workers)).join() === as.join(),
        `tasks are spread ${as.join(', ')}`,
      )

    it('a worker that comes gets its share, and one that leaves only moves its own', async () => {
      using folder = newFolder()
      write(folder, 'share')
      const hub = folder.start(['hub', '--port', '0'])
      const first = folder.start(['worker', '--concurrency', '20'])
      await areSpread(folder, [first], [12])
      // What met a topic that was only being made was taken once more. From here on nothing fails.
      const begun = takenBy(first)
      const second = folder.start(['worker', '--concurrency', '20'])
      await areSpread(folder, [first, second], [6, 6])
      expect(handedBackBy(first)).toBe(6)
      const third = folder.start(['worker', '--concurrency', '20'])
      const workers = [first, second, third]
      await areSpread(folder, workers, [4, 4, 4])
      expect(workers.map(takenBy), 'only four more have moved').toEqual([begun, 6, 4])
      expect(workers.map(handedBackBy)).toEqual([8, 2, 0])
      // It stays as it is: nothing moves to and fro.
      const before = await spread(folder)
      for (let looks = 0; looks < 3; looks++) {
        await new Promise(resolve => setTimeout(resolve, 3_500)) // a look of each worker
        expect(await spread(folder)).toEqual(before)
      }
      third.child.kill('SIGTERM')
      expect((await third.ended).code).toBe(0)
      await areSpread(folder, [first, second], [6, 6])
      const after = await spread(folder)
      for (const one of [first, second])
        expect(after.get(one.child.pid!)).toEqual(expect.arrayContaining([...before.get(one.child.pid!)!]))
      expect([first, second].map(takenBy)).toEqual([begun + 2, 8])
      for (const one of [first, second, hub]) {
        one.child.kill('SIGTERM')
        expect((await one.ended).code).toBe(0)
      }
    }, 300_000)

    it('a worker that stood still for a quarter of its lock gives its tasks back, says so, and has them leased anew', async () => {
      using folder = newFolder()
      write(folder, 'still')
      const hub = folder.start(['hub', '--port', '0'])
      const worker = folder.start(['worker', '--concurrency', '20', '--json'])
      await areSpread(folder, [worker], [12])
      const { health } = JSON.parse(worker.stdout())
      const begun = takenBy(worker)
      worker.child.kill('SIGSTOP')
      await new Promise(resolve => setTimeout(resolve, 9_000)) // of a lock of thirty seconds
      worker.child.kill('SIGCONT')
      await until(() => worker.stderr().includes('stood still'), 'it says so')
      const said = worker
        .stderr()
        .split('\n')
        .find(line => line.includes('stood still'))!
      const { event_loop_delay_ms: delayMs, lock_ms: lockMs, hint } = JSON.parse(said)
      expect(delayMs).toBeGreaterThan(8_000)
      expect(lockMs).toBe(30_000)
      expect(hint).toContain('--concurrency')
      const metrics = await (await fetch(`${health}/metrics`)).text()
      const shown = Number(/^millrace_process_event_loop_delay_max_seconds (\S+)$/m.exec(metrics)?.[1])
      expect(shown).toBeGreaterThan(8)
      await until(() => takenBy(worker) >= begun + 12, 'each task is taken again')
      await areSpread(folder, [worker], [12])
      for (const one of [worker, hub]) {
        one.child.kill('SIGTERM')
        expect((await one.ended).code).toBe(0)
      }
    }, 200_000)

    it('workers that start together share from the beginning; one with little room has little', async () => {
      using folder = newFolder()
      write(folder, 'start')
      const small = folder.start(['worker', '--concurrency', '2', '--json'])
      const large = folder.start(['worker', '--concurrency', '20', '--json'])
      await until(() => small.stdout() !== '' && large.stdout() !== '', 'both workers are there')
      const hub = folder.start(['hub', '--port', '0'])
      await areSpread(folder, [small, large], [2, 10])
      expect([small, large].map(handedBackBy)).toEqual([0, 0])
      expect((await spread(folder)).size).toBe(2)
      for (const one of [small, large, hub]) {
        one.child.kill('SIGTERM')
        expect((await one.ended).code).toBe(0)
      }
    }, 200_000)
  },
)
