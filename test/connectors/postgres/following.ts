/** For the tests of this folder: a publication, a slot and a stream over tables, with all that was decoded kept. */
import { describeTables, matchTables, planOf, relationNames } from '../../../connectors/postgres/catalog.ts'
import type { PostgresConfig } from '../../../connectors/postgres/config.ts'
import { connect } from '../../../connectors/postgres/connect.ts'
import { type Change, pgOutputDecoder, type Relation } from '../../../connectors/postgres/pgoutput.ts'
import { type Replication, startReplication } from '../../../connectors/postgres/replication.ts'
import { createSlot } from '../../../connectors/postgres/slot.ts'
import { dropUpstream, emitMessage, ensurePublication } from '../../../connectors/postgres/upstream.ts'
import { testContext } from '../../conform/context.ts'
import type { PostgresServer } from '../../servers/postgres.ts'

export interface Follower extends AsyncDisposable {
  readonly replication: Replication
  readonly changes: Change[]
  /** All else, as lines: "begin", "commit", "relation app.t", "truncate app.t cascade", "message prefix content". */
  readonly events: string[]
  readonly confirmed: { commitLsn: bigint; endLsn: bigint; xid: number; commitUs: number }
  readonly failure: Error | null
  /** Emits a message of this content, waits until the stream brings it, and answers all changes so far. */
  until(content: string): Promise<readonly Change[]>
}

let serial = 0

export async function followed(
  server: PostgresServer,
  names: readonly { schema: string; name: string }[],
  columns: PostgresConfig['columns'] = {},
): Promise<Follower> {
  const slot = `following_${++serial}`
  const admin = await connect(server)
  const matched = matchTables(
    await relationNames(admin),
    names.map(({ schema, name }) => `"${schema}"."${name}"`),
  )
  const oids = matched.tables.map(({ oid }) => oid)
  let tables = await describeTables(admin, oids)
  await ensurePublication(admin, slot, tables)
  await createSlot(admin, slot, testContext())
  const changes: Change[] = []
  const events: string[] = []
  const confirmed = { commitLsn: 0n, endLsn: 0n, xid: 0, commitUs: 0 }
  let failure: Error | null = null
  const decoder = pgOutputDecoder(
    relation => planOf(tables.find(({ oid }) => oid === relation.oid)!, columns, relation.columns),
    {
      begin(xid, commitLsn, commitUs) {
        Object.assign(confirmed, { xid, commitLsn, commitUs })
        events.push('begin')
      },
      commit(_, endLsn) {
        confirmed.endLsn = endLsn
        events.push('commit')
      },
      relation(relation) {
        events.push(`relation ${label(relation)}`)
        // The shape may be new: stop before the next message, look, go on.
        replication.pause()
        void describeTables(admin, oids).then(found => {
          tables = found
          replication.resume()
        })
      },
      change: change => changes.push(change),
      truncate: (relations, { cascade, restartIdentity }) =>
        events.push(
          `truncate ${relations.map(label).join(' ')}${cascade ? ' cascade' : ''}${restartIdentity ? ' restart' : ''}`,
        ),
      message: (isTransactional, prefix, content) =>
        events.push(`message ${isTransactional ? 'in' : 'out'} ${prefix} ${content}`),
    },
  )
  const replication = await startReplication(server, {
    slot,
    publication: slot,
    lsn: '0/0',
    nowUs: () => Date.now() * 1000,
    onData: (buffer, start, end, lsn) => decoder.decode(buffer, start, end, lsn),
    onKeepalive: () => {},
    onClose: error => {
      failure = error
    },
  })
  return {
    replication,
    changes,
    events,
    confirmed,
    get failure() {
      return failure
    },
    async until(content) {
      const client = await connect(server)
      await emitMessage(client, true, 'test', content)
      await client.end()
      for (let waited = 0; !events.includes(`message in test ${content}`); waited += 5) {
        if (failure) throw failure
        if (waited > 30_000) throw new Error(`the message ${content} did not come`)
        await new Promise(done => setTimeout(done, 5))
      }
      return changes
    },
    async [Symbol.asyncDispose]() {
      await replication.close()
      await dropUpstream(
        admin,
        { slot, publication: slot },
        { sleep: ms => new Promise(done => setTimeout(done, ms)) },
      )
      await admin.end()
    },
  }
}

const label = ({ schema, name }: Relation): string => `${schema}.${name}`
