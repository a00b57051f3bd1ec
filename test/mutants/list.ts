/** Planted bugs: a text of a source file and what it is replaced by. Each must be found by the simulation that is named. */
export interface Mutant {
  readonly name: string
  readonly file: string
  readonly text: string
  readonly by: string
  /** A second change in the same file: a guard behind the guard. */
  readonly also?: { readonly text: string; readonly by: string }
  readonly found: 'sim' | 'fleet' | 'handoff'
}

const of =
  (found: Mutant['found'], file: string) =>
  (name: string, text: string, by: string, also?: Mutant['also']): Mutant => ({
    name,
    file,
    text,
    by,
    found,
    ...(also ? { also } : {}),
  })
const kafkaWriter = of('fleet', 'core/log/kafka/writer.ts')
const kafkaProgress = of('fleet', 'core/log/kafka/progress.ts')
const transactions = of('fleet', 'core/kafka/transactions.ts')
const tail = of('fleet', 'core/kafka/tail.ts')
const pump = of('sim', 'core/pump.ts')
const segments = of('sim', 'core/log/segments.ts')
const segment = of('sim', 'core/log/segment.ts')
const changes = of('sim', 'core/log/changes.ts')
const numbering = of('sim', 'core/log/numbering.ts')
const retention = of('sim', 'core/log/retention.ts')
const detached = of('sim', 'core/queue/detached.ts')
const sqlite = of('sim', 'connectors/sqlite/writer.ts')
const handoff = of('handoff', 'connectors/postgres/handoff.ts')
const feed = of('handoff', 'connectors/postgres/feed.ts')
const position = of('handoff', 'connectors/postgres/position.ts')

export const MUTANTS: readonly Mutant[] = [
  pump(
    'the upstream may forget before the write',
    'let left = batch\n',
    'await reader.commit?.(batch.offset)\n    let left = batch\n',
  ),
  pump(
    'progress is saved before the write',
    'let left = batch\n',
    'if (!writer.position) await progress.save(batch.offset)\n    let left = batch\n',
  ),
  pump('rejected records are not set aside', 'await dead.add(rejected)\n', '\n'),
  pump(
    'the good ones of a refused batch are not written again',
    'left = without(left, rejected) // it wrote nothing: again, without the bad ones',
    'break',
  ),
  pump(
    'what a writer only gathered is let go',
    'writer.durable ? writer.durable() : batch.offset',
    'batch.offset',
    { text: 'durable === null || durable === told', by: 'durable === null' },
  ),
  segments('unsynced frames are served', 'await state.file!.sync()\n', '\n'),
  segments(
    'the name of a new segment is not synced',
    'await file.sync()\n    await disk.syncDirectory(directory)',
    'await file.sync()',
  ),
  segments('after a failed write the file is not cut', 'await file.truncate(active.size)\n', '\n'),
  segments('a failed append keeps the offsets it took', '    takeBack(state, 0)\n', ''),
  segments(
    'readers are not told of what became visible',
    'for (const wake of [...state.watchers]) wake()\n}\n\n/** At once',
    '}\n\n/** At once',
  ),
  segment('a torn tail is not cut', 'await file.truncate(segment.size)', 'segment.size = size'),
  segment(
    'what is whole but unsynced is served after a restart',
    'await file.sync() // what is whole',
    '// what is whole',
  ),
  numbering(
    'versions do not go on from the last one',
    'last = Math.max(last + 1, nowUs)',
    'last = nowUs + 1',
  ),
  changes(
    'an older owner of the source goes on writing',
    'if (newest > epoch) throw new Fenced(`${task} has a newer owner, epoch ${newest}`, newest)',
    '',
    { text: 'assertLease(context) // here', by: '// here' },
  ),
  numbering(
    'a sweep goes to one partition',
    'partition < partitions; partition++)',
    'partition < 1; partition++)',
  ),
  retention(
    'retention by time passes a sink',
    'return isDue && holding(next).length === 0',
    'return (isDue && holding(next).length === 0) || next.header.made_ms < oldestMs',
  ),
  retention(
    'retention by size passes a sink',
    'return isDue && holding(next).length === 0',
    'return (isDue && holding(next).length === 0) || segments().sizeBytes() > bytes',
  ),
  retention(
    'an unread segment is deleted at the limit',
    '(_, next) => isFull() && holding(next).length === 0',
    'isFull',
  ),
  retention(
    'who has not said where it stands is not waited for',
    'if (!position) return false',
    'if (!position) return true',
  ),
  retention(
    'a sink that was detached reads on',
    'if (isDetached(consumer)) throw detachedError(consumer)',
    '',
  ),
  detached(
    'that a sink was detached is forgotten with the process',
    'insert.run(task, Math.floor(atMs))',
    '{}',
  ),
  sqlite('neither lease nor position is looked at', 'if (moved.changes === 1) return', 'return', {
    text: 'assertLease(context)\n  const offset',
    by: 'const offset',
  }),
  sqlite('a sweep is no barrier', 'flush(changes)\n      changes = new Map()\n', ''),
  handoff(
    'keys are remembered only until W',
    'if (chunk.remembered) chunk',
    'if (chunk.passed) continue\n    if (chunk.remembered) chunk',
  ),
  handoff(
    'S need not see what was decoded before P',
    'chunk.mustSee.every(xid => session.snapshot.sees(xid))',
    'true',
  ),
  handoff('rows in memory are not struck out', 'else if (chunk.rows) strike', 'else if (!chunk) strike'),
  handoff('a chunk does not wait for W', 'chunk.passed && chunk.rows !== null', 'chunk.rows !== null'),
  handoff('a truncate leaves open chunks alone', 'fill.stale = true\n', 'return\n'),
  handoff(
    'transactions being delivered are not noted',
    'if (state.fills.size > 0) state.unseen.add(xid)',
    '',
  ),
  feed(
    'the list of unseen transactions is not kept over a restart',
    'unseen: handoff.unseen().map(String)',
    'unseen: []',
  ),
  feed('a resumed transaction skips one change too many', 'from.open!.done : 0', 'from.open!.done + 1 : 0'),
  feed(
    'a chunk goes out before the changes decoded in front of it',
    'if (state.pending.length > 0) {',
    'if (state.pending.length > 0 && !state.handoff.ready()) {',
  ),
  position(
    'what committed before the slot stood and is not visible yet is not waited for',
    'unseen: running.map(String)',
    'unseen: []',
  ),
  kafkaWriter(
    'the position is loaded before the owner before is fenced (K1)',
    '  await catalog.refresh() // behind the fence',
    '  // behind the fence',
  ),
  kafkaWriter(
    'an older owner opens behind a newer one',
    '  refuseOlder(task, epoch, stored?.epoch ?? 0)\n',
    '',
  ),
  kafkaWriter(
    'the position is not in the transaction of its records (K1)',
    '[entries, ...batches]',
    'batches',
  ),
  kafkaWriter('numbers begin anew with each owner (V1)', 'stored?.last ?? 0', '0'),
  transactions(
    'a write of unknown outcome is done again by the same producer (K1)',
    '  if (state.isDead)',
    '  if (state.isDead && Math.min(1, 0) > 0)',
    {
      text: 'throw ended instanceof Fenced ? ended : kafkaError(error, what)',
      by: 'if (ended instanceof Fenced) throw ended\n    return run(state, work, before)',
    },
  ),
  transactions(
    'a fenced owner is told of something else',
    'throw ended instanceof Fenced ? ended : kafkaError(error, what)',
    'if (!(ended instanceof Fenced)) throw kafkaError(error, what)',
  ),
  kafkaProgress(
    'progress is loaded before the owner before is fenced (K1, K3)',
    'state.transactions = await parts.open(context)\n',
    'const early = await offsetsOf(parts, context)\n      state.transactions = await parts.open(context)\n',
    { text: 'const committed = await offsetsOf(parts, context)', by: 'const committed = early' },
  ),
  tail(
    'a client that joined its group again hands out what was read (K4)',
    'return fetchedAt === due ? messages : messages.filter(one => Number(one.offset) >= due)',
    'return messages',
    {
      text: 'for (const [topic, offset] of due) consumer.seek({ topic, partition, offset: String(offset) })',
      by: '',
    },
  ),
]
