#!/usr/bin/env node
/** The composition root: commands, connectors and the process. The only file in core/ that imports connectors/. */
import { existsSync, readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { elasticsearchDocuments } from '../../connectors/elasticsearch/documents.ts'
import { connectors } from '../../connectors/index.ts'
import { startEmbeddedPostgres } from '../../connectors/postgres/embedded.ts'
import { openShop } from '../../connectors/postgres/shop.ts'
import { readDocuments } from '../../connectors/sqlite/documents.ts'
import { Secrets } from '../secrets.ts'
import { boundHeapGrowth } from '../worker/heap.ts'
import { remove } from './delete.ts'
import { demo } from './demo.ts'
import { hub, worker } from './fleet.ts'
import { check, listDeadLetters, plan, search, status, validate } from './look.ts'
import { exitCodeOf } from './output.ts'
import { produce } from './produce.ts'
import type { Setting } from './session.ts'
import { run, up } from './up.ts'

boundHeapGrowth()

const manifest = new URL('../../../package.json', import.meta.url)
const version = existsSync(manifest)
  ? (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version
  : '0'

const secrets = new Secrets()
const setting: Setting = { connectors, secrets, env: process.env }

const program = new Command('millrace')
  .description('Keeps search indexes, caches and lakes in step with databases.')
  .version(version)
  .showSuggestionAfterError()
  .exitOverride()

/** What most commands take. */
const common = (command: Command, example: string): Command =>
  command
    .option('--hub <file>', 'the hub file (default: hub.yaml in the current directory, if there is one)')
    .option('--data-dir <directory>', 'where logs, progress and the lock live (default: .millrace)')
    .option('--log-level <level>', 'debug, info, warn, error or silent')
    .option('--json', 'print one JSON value instead of text')
    .addHelpText('after', `\nExample:\n  ${example}`)
    .exitOverride()

common(
  program.command('up').argument('[files...]', 'pipelines, or directories of them (default: pipelines)'),
  'millrace up pipelines/shop-search.yaml',
)
  .description('run the hub, its workers and all pipelines in this process, with the page')
  .option('--port <port>', 'port of the API and the page (default: 4000, or the next free one)')
  .action((files: string[], options) => up(setting, files, options))
common(
  program.command('run').argument('<file>', 'a pipeline'),
  'millrace run pipelines/postgres-to-sqlite.yaml --until-caught-up',
)
  .description('run one pipeline without API and page')
  .option('--until-caught-up', 'end when everything that stood in the source at the start is in the sinks')
  .action((file: string, options) => run(setting, file, options))
common(
  program.command('hub').argument('[files...]', 'pipelines, or directories of them (default: pipelines)'),
  'millrace hub pipelines',
)
  .description('check pipelines and offer their tasks to workers, with API and page (Kafka and Redis)')
  .option('--port <port>', 'port of the API and the page (default: 4000, or the next free one)')
  .action((files: string[], options) => hub(setting, files, options))
common(program.command('worker'), 'millrace worker --concurrency 20 --only sinks')
  .description('take tasks that hubs offer, and run them (Kafka and Redis)')
  .option('--concurrency <n>', 'tasks at the same time', '10')
  .option('--only <kind>', 'sources or sinks')
  .option('--port <port>', 'port of /livez, /readyz and /metrics (default: a free one)')
  .action(options => worker(setting, options))
common(program.command('validate').argument('[files...]'), 'millrace validate pipelines')
  .description('find every mistake in the files; connects to nothing')
  .action((files: string[], options) => validate(setting, files, options))
common(program.command('check').argument('[files...]'), 'millrace check pipelines/shop-search.yaml')
  .description('connect to sources and sinks, and say what is missing and what mends it')
  .action((files: string[], options) => check(setting, files, options))
common(program.command('plan').argument('[files...]'), 'millrace plan pipelines/shop-search.yaml')
  .description('show what would be made, read and written; changes nothing')
  .action((files: string[], options) => plan(setting, files, options))
common(program.command('status'), 'millrace status --json')
  .description('show the pipelines of the hub that runs')
  .action(options => status(setting, options))
common(
  program.command('search').argument('<pipeline>').argument('<words...>'),
  'millrace search shop-search "oak chair"',
)
  .description('search the index of a pipeline')
  .option('--limit <n>', 'documents at most', '10')
  .option('--file <file>', 'where the pipeline is, when no hub runs (default: pipelines)')
  .action((pipeline: string, words: string[], options) => search(setting, pipeline, words.join(' '), options))
common(
  program.command('produce').argument('<topic>', '<pipeline>.<schema>.<table>'),
  'millrace produce orders.shop.orders < orders.ndjson',
)
  .description('write rows into a topic: JSON, one a line, or one value; from stdin or a file')
  .option('--from <file>', 'where the rows are (default: standard input)')
  .option('--delete', 'each line is a key, whose row is deleted')
  .option('--idempotency-key <key>', 'the same input again with the same key is written once')
  .option('--file <file>', 'where the pipeline is, when no hub runs (default: pipelines)')
  .action((topic: string, options) => produce(setting, topic, options))
const dlq = program
  .command('dlq')
  .description('dead letters: records that could not be delivered')
  .exitOverride()
common(dlq.command('list').argument('<pipeline>'), 'millrace dlq list shop-search')
  .description('list them with their error, stage and place')
  .action((pipeline: string, options) => listDeadLetters(setting, pipeline, options))
common(program.command('delete').argument('<pipeline>'), 'millrace delete shop-search --yes')
  .description("drop a pipeline's slot, publication, log and progress; the sinks' data stay")
  .option('--yes', 'mean it')
  .option('--file <file>', 'where the pipeline is, when no hub runs (default: pipelines)')
  .action((pipeline: string, options) => remove(setting, pipeline, options))
common(program.command('demo'), 'millrace demo --once --json')
  .description('a shop in a real PostgreSQL, followed into a search index, with a page to watch it')
  .option('--once', 'snapshot, follow some changes, compare every row with the index, and end')
  .option('--changes <n>', 'changes to follow with --once', '1000')
  .option('--products <n>', 'products in the shop', '100000')
  .option('--port <port>', 'port of the page (default: 4000, or the next free one)')
  .action(options =>
    demo(
      setting,
      { startPostgres: startEmbeddedPostgres, openShop, readDocuments, elasticsearchDocuments },
      options,
    ),
  )

try {
  await program.parseAsync()
} catch (error) {
  // commander has printed what is wrong with the command line; help and version are no mistakes
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else process.exitCode = exitCodeOf(error, text => secrets.redact(text))
}
// Everything is closed and printed; what waits for a reader of standard output that never comes must not keep the process.
process.exit()
