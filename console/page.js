// The page: live numbers of each pipeline and a search box whose results change as rows change. No build, no library.
const $ = selector => document.querySelector(selector)
const number = new Intl.NumberFormat('en')
const POLL_MS = 1000

/** Records and time of the last poll by pipeline, for the rate. */
const before = new Map()
/** Version of each hit shown, to mark what is new. */
let shown = new Map()

async function get(path) {
  const answer = await fetch(path, { cache: 'no-store' })
  const body = await answer.json()
  if (!answer.ok) throw new Error(body.error ?? answer.statusText)
  return body
}

const bytes = n =>
  n < 1e6
    ? `${number.format(Math.round(n / 1e3))} kB`
    : n < 1e9
      ? `${number.format(Math.round(n / 1e5) / 10)} MB`
      : `${number.format(Math.round(n / 1e8) / 10)} GB`
const time = ms =>
  ms < 1000
    ? `${Math.round(ms)} ms`
    : ms < 120_000
      ? `${(ms / 1000).toFixed(1)} s`
      : `${Math.round(ms / 60_000)} min`

function rateOf(name, records) {
  const now = performance.now()
  const last = before.get(name)
  before.set(name, { records, now })
  if (!last || records < last.records) return null
  return ((records - last.records) * 1000) / (now - last.now)
}

function card(name) {
  const id = `pipeline-${name}`
  let element = document.getElementById(id)
  if (!element) {
    element = $('#pipeline').content.firstElementChild.cloneNode(true)
    element.id = id
    element.querySelector('.name').textContent = name
    $('#pipelines').append(element)
  }
  return element
}

function show(pipeline) {
  const element = card(pipeline.name)
  const set = (name, text) => {
    element.querySelector(`.${name}`).textContent = text
  }
  const [source, ...sinks] = pipeline.tasks
  const state = element.querySelector('.state')
  state.textContent = pipeline.state
  state.dataset.state = pipeline.state
  const rate = rateOf(pipeline.name, source.records)
  if (rate !== null) set('rate', number.format(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)))
  set('records', number.format(pipeline.log_records))
  const lag = Math.max(0, ...sinks.map(task => task.lag_records))
  const seconds = Math.max(0, ...sinks.map(task => task.lag_seconds))
  set('lag', lag === 0 ? 'none' : `${number.format(lag)} rows, ${seconds} s`)
  const latency = Math.max(0, ...sinks.map(task => task.metrics.latency_ms ?? 0))
  set('latency', pipeline.caught_up && latency > 0 ? time(latency) : '–')
  set('dead', number.format(pipeline.dead_letters))
  element.querySelector('.dead').classList.toggle('alarm', pipeline.dead_letters > 0)
  set(
    'bytes',
    pipeline.log.bytes === null
      ? 'on Kafka'
      : `${bytes(pipeline.log.bytes)} of ${bytes(pipeline.log.limit_bytes)}`,
  )
  progress(element, source.metrics)
  const errors = pipeline.tasks
    .filter(task => task.error)
    .map(task => {
      const item = document.createElement('li')
      item.textContent = `${task.name}: ${task.error}${task.hint ? ` — ${task.hint}` : ''}`
      return item
    })
  element.querySelector('.errors').replaceChildren(...errors)
}

function progress(element, metrics) {
  const bar = element.querySelector('.progress')
  bar.hidden = metrics.snapshot_running !== 1
  if (bar.hidden) return
  const done = metrics.snapshot_rows ?? 0
  const all = Math.max(done, metrics.snapshot_rows_total ?? 0)
  bar.querySelector('progress').value = all > 0 ? done / all : 0
  bar.querySelector('.progress-text').textContent =
    `snapshot: ${number.format(done)} of about ${number.format(all)} rows`
}

function describe({ document: fields }) {
  return Object.entries(fields)
    .filter(([name, value]) => name !== 'name' && value !== null)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(' · ')
}

function showHits({ total, hits }, words) {
  $('#found').textContent = words === '' ? '' : `${number.format(total)} found`
  const next = new Map()
  $('#hits').replaceChildren(
    ...hits.map(hit => {
      const key = `${hit.table}/${hit.id}`
      next.set(key, hit.version)
      const item = document.createElement('li')
      const title = document.createElement('h3')
      title.textContent = hit.document.name ?? hit.document.body ?? hit.id
      const where = document.createElement('span')
      where.className = 'where'
      where.textContent = `${hit.table} ${hit.id}`
      const text = document.createElement('p')
      text.textContent = describe(hit)
      item.append(title, where, text)
      if (shown.has(key) && shown.get(key) !== hit.version) {
        item.className = 'fresh'
        setTimeout(() => item.classList.remove('fresh'), 50)
      }
      return item
    }),
  )
  shown = next
}

let pipelines = []
let asked = 0
async function search() {
  const words = $('#words').value.trim()
  if (words === '' || pipelines.length === 0) return showHits({ total: 0, hits: [] }, '')
  const turn = ++asked
  const name = pipelines[0].name
  try {
    const found = await get(
      `api/search?pipeline=${encodeURIComponent(name)}&words=${encodeURIComponent(words)}&limit=20`,
    )
    if (turn === asked) showHits(found, words) // an older answer must not overtake a newer question
  } catch (error) {
    if (turn === asked) $('#found').textContent = error.message
  }
}

async function poll() {
  try {
    ;({ pipelines } = await get('api/status'))
    $('#hub').textContent = `${pipelines.length} pipeline${pipelines.length === 1 ? '' : 's'}`
    $('#hub').classList.remove('gone')
    const names = new Set(pipelines.map(one => `pipeline-${one.name}`))
    for (const element of [...$('#pipelines').children]) if (!names.has(element.id)) element.remove()
    pipelines.forEach(show)
    await search()
  } catch {
    $('#hub').textContent = 'the hub does not answer'
    $('#hub').classList.add('gone')
  }
  setTimeout(poll, POLL_MS)
}

$('#form').addEventListener('submit', event => event.preventDefault())
$('#words').addEventListener('input', search)
const wanted = new URLSearchParams(location.search).get('q')
if (wanted) $('#words').value = wanted
poll()
