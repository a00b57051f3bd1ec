/**
 * The chart as Helm renders it: what Kubernetes would take (schemas only; no cluster is at hand), what the program would, and both for
 * real as far as a process goes: started with the arguments, the environment and the files of the pods.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { freePort } from '../../connectors/postgres/embedded.ts'
import { parseHub } from '../../core/pipeline/hub-schema.ts'
import { type Folder, newFolder, type Running, until } from '../core/cli/program.ts'
import { type Helm, installHelm, KUBERNETES, missingForHelm } from '../servers/helm-install.ts'
import { missingForRedis, startRedis } from '../servers/redis.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CHART = join(ROOT, 'helm', 'millrace')
const FILES = ['minimal', 'single', 'fleet', 'everything'] as const
type File = (typeof FILES)[number]
const valuesOf = (file: File): string => join(CHART, 'ci', `${file}.yaml`)
/** The program's own bound (core/cli/fleet.ts), with room for the kubelet. */
const HAND_OVER_S = 10

// biome-ignore lint/suspicious/noExplicitAny: manifests are of many shapes, which Kubernetes' schemas have checked
type Manifest = any

/** What the Secrets that the value files name would hold. */
const secretsWith = (redis: string): Readonly<Record<string, Readonly<Record<string, string>>>> => ({
  shop: {
    'database-url': 'postgres://millrace:hidden@127.0.0.1:1/shop',
    'elasticsearch-password': 'hidden',
    DATABASE_URL: 'postgres://millrace:hidden@127.0.0.1:1/shop',
    ELASTICSEARCH_URL: 'http://127.0.0.1:1',
  },
  redis: { url: redis, password: 'hidden' },
  'redis-ca': { 'ca.crt': '' },
  'elasticsearch-ca': { 'ca.crt': '' },
  'kafka-millrace': { 'ca.crt': '', 'tls.crt': '', 'tls.key': '', password: 'hidden' },
})
const SECRETS = secretsWith('redis://127.0.0.1:1')

const ofKind = (manifests: readonly Manifest[], kind: string): Manifest[] =>
  manifests.filter(one => one.kind === kind)
const workloads = (manifests: readonly Manifest[]): Manifest[] =>
  manifests.filter(one => ['Deployment', 'StatefulSet'].includes(one.kind))
const podOf = (workload: Manifest): Manifest => workload.spec.template.spec
const containerOf = (workload: Manifest): Manifest => podOf(workload).containers[0]
const isSelected = (selector: Record<string, string>, workload: Manifest): boolean =>
  Object.entries(selector).every(([key, value]) => workload.spec.template.metadata.labels[key] === value)
const configMap = (manifests: readonly Manifest[], name: string): Record<string, string> | undefined =>
  ofKind(manifests, 'ConfigMap').find(one => one.metadata.name === name)?.data

/** Does the kubelet's part: puts a pod's files into a folder, and answers with the container's arguments and environment there. */
function layPod(workload: Manifest, manifests: readonly Manifest[], folder: Folder, secrets = SECRETS) {
  const here = (text: string) => text.replaceAll('/etc/millrace', join(folder.path, 'etc'))
  const container = containerOf(workload)
  for (const { name, mountPath } of container.volumeMounts) {
    const volume = podOf(workload).volumes?.find((one: Manifest) => one.name === name)
    const data = volume?.configMap
      ? (configMap(manifests, volume.configMap.name) ?? {})
      : volume?.secret && secrets[volume.secret.secretName]
    for (const [file, text] of Object.entries(data ?? {}))
      folder.write(join('etc', mountPath.replace('/etc/millrace', ''), file), here(text as string))
  }
  const env: Record<string, string> = {}
  for (const { secretRef } of container.envFrom ?? []) Object.assign(env, secrets[secretRef?.name] ?? {})
  for (const { name, value, valueFrom } of container.env ?? []) {
    const { name: secret, key } = valueFrom?.secretKeyRef ?? {}
    env[name] = value ?? secrets[secret]![key]!
  }
  return { args: container.args.map(here) as string[], env, hubFile: join(folder.path, 'etc/hub/hub.yaml') }
}

const missing = missingForHelm()
describe.skipIf(missing !== null)(missing === null ? 'the chart' : `the chart: ${missing}`, () => {
  let helm: Helm
  const temporary = mkdtempSync(join(tmpdir(), 'millrace-chart-'))
  beforeAll(async () => {
    helm = await installHelm()
  }, 900_000)
  afterAll(() => rmSync(temporary, { recursive: true, force: true }))

  const template = (file: File, ...more: string[]) =>
    helm.helm(
      ...['template', 'shop', CHART, '--namespace', 'search', '--kube-version', KUBERNETES],
      ...['--values', valuesOf(file), ...more],
    )
  const textOf = async (file: File, ...more: string[]): Promise<string> => {
    const { code, stdout, stderr } = await template(file, ...more)
    expect(code, stderr).toBe(0)
    return stdout
  }
  const render = async (file: File, ...more: string[]): Promise<Manifest[]> =>
    parseAllDocuments(await textOf(file, ...more))
      .map(document => {
        expect(document.errors).toEqual([])
        return document.toJS()
      })
      .filter(one => one !== null)

  describe.each(FILES)('%s.yaml', file => {
    it('is without a complaint of helm lint', async () => {
      const { code, stdout, stderr } = await helm.helm(
        ...['lint', CHART, '--strict', '--kube-version', KUBERNETES, '--values', valuesOf(file)],
      )
      expect(code, stdout + stderr).toBe(0)
      expect(stdout).not.toMatch(/\[(WARNING|ERROR)\]/)
    })

    it('gives manifests that the schemas of Kubernetes take', async () => {
      const path = join(temporary, `${file}.yaml`)
      const text = await textOf(file)
      writeFileSync(path, text)
      const { code, stdout, stderr } = await helm.validate(path)
      expect(code, stdout + stderr).toBe(0)
      // PodMonitor is of the Prometheus operator, and no schema of it is at hand.
      const kinds = [...text.matchAll(/^kind: (\w+)$/gm)].map(([, kind]) => kind)
      const passed = kinds.filter(kind => kind !== 'PodMonitor').length
      expect(stdout.match(/^INFO .* passed /gm), stdout).toHaveLength(passed)
      expect(stdout.match(/^WARN /gm) ?? []).toHaveLength(kinds.length - passed)
    })

    it('keeps to the restricted level of pod security, and to a read-only root', async () => {
      for (const workload of workloads(await render(file))) {
        const pod = podOf(workload)
        expect(pod.securityContext).toMatchObject({
          runAsNonRoot: true,
          runAsUser: 10001,
          seccompProfile: { type: 'RuntimeDefault' },
        })
        expect(pod.automountServiceAccountToken).toBe(false)
        for (const key of ['hostNetwork', 'hostPID', 'hostIPC', 'initContainers'])
          expect(pod[key]).toBeUndefined()
        expect(pod.containers).toHaveLength(1)
        const { securityContext, volumeMounts, resources } = containerOf(workload)
        expect(securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        })
        expect(resources.limits.memory).toBeDefined()
        const writable = volumeMounts.filter((one: Manifest) => !one.readOnly)
        expect(writable.map((one: Manifest) => one.mountPath)).toEqual(['/var/lib/millrace', '/tmp'])
        const claims = (workload.spec.volumeClaimTemplates ?? []).map((one: Manifest) => one.metadata)
        const volumes = [...pod.volumes, ...claims].map(one => one.name)
        expect(volumes.sort()).toEqual(volumeMounts.map((one: Manifest) => one.name).sort())
        for (const volume of pod.volumes)
          expect(Object.keys(volume).filter(key => !['name', 'configMap', 'secret'].includes(key))).toEqual(
            ['data', 'tmp'].includes(volume.name) ? ['emptyDir'] : [],
          )
      }
    })

    it('holds no secret', async () => {
      const manifests = await render(file)
      expect(ofKind(manifests, 'Secret')).toEqual([])
      const env = workloads(manifests).flatMap(one => containerOf(one).env ?? [])
      expect(env.filter(one => one.value !== undefined && one.name !== 'NODE_OPTIONS')).toEqual([])
    })

    it('probes where the program listens, and waits until it has handed over', async () => {
      const manifests = await render(file)
      const [service] = ofKind(manifests, 'Service')
      const hubs = workloads(manifests).filter(one => isSelected(service.spec.selector, one))
      expect(hubs.map(one => containerOf(one).args[0])).toEqual([expect.stringMatching(/^(up|hub)$/)])
      for (const workload of workloads(manifests)) {
        const container = containerOf(workload)
        const hub = hubs[0].spec.template.spec.volumes.find((one: Manifest) => one.name === 'hub')
        const { api } = parse(configMap(manifests, hub.configMap.name)!['hub.yaml']!)
        expect(container.ports).toEqual([{ name: 'http', containerPort: api.port }])
        expect(api.host).toBe('0.0.0.0')
        const at = container.args.indexOf('--port')
        if (container.args[0] === 'worker') expect(container.args[at + 1]).toBe(String(api.port))
        else expect(at).toBe(-1)
        expect(container.livenessProbe.httpGet).toEqual({ path: '/livez', port: 'http' })
        expect(container.readinessProbe.httpGet).toEqual({ path: '/readyz', port: 'http' })
        expect(podOf(workload).terminationGracePeriodSeconds).toBeGreaterThan(HAND_OVER_S)
      }
      expect(service.spec.ports[0].targetPort).toBe('http')
    })

    it('selects each pod for one workload, and each budget for one', async () => {
      const manifests = await render(file)
      const all = workloads(manifests)
      const budgets = ofKind(manifests, 'PodDisruptionBudget')
      for (const one of [...all, ...budgets])
        expect(all.filter(other => isSelected(one.spec.selector.matchLabels, other))).toHaveLength(1)
      const evicted = all.filter(one =>
        budgets.some(budget => isSelected(budget.spec.selector.matchLabels, one)),
      )
      expect(evicted).toEqual(
        all.filter(one => containerOf(one).args[0] === 'worker' || one.spec.replicas > 1),
      )
    })

    it('mounts a hub file and pipelines that the program takes', async () => {
      const manifests = await render(file)
      for (const workload of workloads(manifests)) {
        using folder = newFolder()
        const { args, env, hubFile } = layPod(workload, manifests, folder)
        expect(args[args.indexOf('--hub') + 1]).toBe(hubFile)
        const text = readFileSync(hubFile, 'utf8')
        const hub = { path: 'hub.yaml', text }
        expect(parseHub(hub, { env, readFile: path => readFileSync(path, 'utf8') }).mistakes).toEqual([])
        // In scientific notation a number would be another text, and no whole number for the reader.
        expect(text).not.toMatch(/\de\+/)
        if (args[0] === 'worker' || file === 'everything') continue // from the hub; from a ConfigMap of somebody else
        const { code, stderr } = await folder.run(['validate', args[1]!], env)
        expect(code, stderr).toBe(0)
      }
    })
  })

  it('makes pods anew when a file of theirs changes', async () => {
    const checksums = async (...more: string[]) =>
      workloads(await render('fleet', ...more)).map(one =>
        ['hub', 'pipelines'].map(key => one.spec.template.metadata.annotations[`checksum/${key}`]),
      )
    const before = await checksums()
    expect(before.flat().filter(Boolean)).toHaveLength(4) // workers mount no pipelines
    const [hubMoved, pipelineMoved] = [
      await checksums('--set', 'hub.log.linger_ms=7'),
      await checksums('--set', 'pipelines.try\\.yaml=name: other'),
    ]
    expect(hubMoved.map(([hub], at) => hub === before[at]![0])).toEqual([false, false, false])
    expect(hubMoved.map(one => one[1])).toEqual(before.map(one => one[1]))
    expect(pipelineMoved.map(one => one[0])).toEqual(before.map(one => one[0]))
    expect(pipelineMoved[0]![1]).not.toBe(before[0]![1])
  })

  it('takes the image by digest or tag, and places pods as its part or the whole says', async () => {
    const manifests = await render('everything')
    const [hub, all, spare] = workloads(manifests)
    expect(containerOf(hub).image).toMatch(/^registry\.example\.com\/millrace@sha256:0123/)
    expect([hub, all].map(one => podOf(one).nodeSelector.pool)).toEqual(['hubs', 'workers'])
    expect([hub, all].map(one => podOf(one).tolerations[0].key)).toEqual(['spot', 'dedicated'])
    expect(
      [hub, spare].map(one => podOf(one).topologySpreadConstraints[0].labelSelector.matchLabels),
    ).toEqual([hub.spec.selector.matchLabels, { 'app.kubernetes.io/name': 'mill' }])
    expect(hub.spec.template.metadata.annotations['example.com/of']).toBe('the-hub')
    expect(spare.spec.replicas).toBe(0)
    const [monitor] = ofKind(manifests, 'PodMonitor')
    const { selector, podMetricsEndpoints } = monitor.spec
    expect([hub, all, spare].every(one => isSelected(selector.matchLabels, one))).toBe(true)
    expect(podMetricsEndpoints).toEqual([{ port: 'http', path: '/metrics', interval: '15s' }])
    const plain = workloads(await render('minimal'))[0]
    expect(containerOf(plain).image).toBe('millrace:0.1.0')
  })

  it.each<[what: string, file: File, set: string, says: RegExp]>([
    ['a mode that is none', 'minimal', 'mode=cluster', /at '\/mode': value must be one of 'single', 'fleet'/],
    ['a key that is none', 'minimal', 'replicas=3', /additional properties 'replicas' not allowed/],
    ['a wrong kind', 'fleet', 'workers[0].only=both', /at '\/workers\/0\/only': value must be one of/],
    ['no pod at a time', 'fleet', 'podDisruptionBudget.maxUnavailable=0', /at '\/podDisruptionBudget\/max/],
    ['hub.yaml as a pipeline', 'minimal', 'pipelines.hub\\.yaml=x', /invalid propertyName 'hub\.yaml'/],
    [
      'a fleet without Kafka',
      'minimal',
      'mode=fleet',
      /hub\.log\.type is embedded: workers need hub\.log\.type kafka/,
    ],
    [
      'a fleet without Redis',
      'fleet',
      'hub.queue.type=embedded',
      /hub\.queue\.type is embedded: workers need/,
    ],
    ['a queue for one process', 'fleet', 'mode=single', /mode is single, and hub\.queue\.type is bullmq/],
    ['nobody for sources', 'fleet', 'workers[0].replicas=0', /no group takes sources/],
    ['no pipelines', 'minimal', 'pipelines=null', /pipelines: give at least one/],
    ['another folder', 'minimal', 'hub.data_dir=/data', /hub\.data_dir: .* leave it out/],
    [
      'a password in hub.yaml',
      'fleet',
      'hub.log.sasl.password=x',
      /sasl\.password would stand in a ConfigMap/,
    ],
    ['a password in a URL', 'fleet', 'hub.queue.url=redis://:x@y', /hub: the password in a URL/],
    [
      'a password in a pipeline',
      'minimal',
      'pipelines.a\\.yaml=u: p://a:b@c',
      /pipelines\.a\.yaml: the password/,
    ],
    ['a password in env', 'minimal', 'env[0].name=URL,env[0].value=p://a:b@c', /env URL: the password/],
  ])('refuses %s', async (_, file, set, says) => {
    const { code, stderr } = await template(file, '--set', set)
    expect(code).not.toBe(0)
    expect(stderr).toMatch(says)
  })

  const noRedis = missingForRedis()
  it.skipIf(noRedis !== null)(
    noRedis ?? 'runs: mode single, and a hub and workers of mode fleet',
    async () => {
      await runPods(await render('minimal'), secretsWith(''))
      await using redis = await startRedis()
      const told = await runPods(await render('fleet'), secretsWith(redis.url))
      expect(told.map(one => one.replace(/^.*takes up to (.*)\. Health.*$/s, '$1')).slice(1)).toEqual([
        '4 tasks (source)',
        '20 tasks (sink)',
      ])
    },
  )
})

describe('Containerfile and compose.yaml', () => {
  const lines = readFileSync(join(ROOT, 'Containerfile'), 'utf8').split('\n')
  const { services, configs } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8'), { merge: true })

  it('copy what is there and not ignored, and run as the user of the chart', () => {
    const ignored = readFileSync(join(ROOT, '.containerignore'), 'utf8').split('\n')
    const copied = lines
      .filter(one => /^COPY (?!--from)/.test(one))
      .flatMap(one => one.split(' ').slice(1, -1))
    for (const path of copied) {
      expect(existsSync(join(ROOT, path)), path).toBe(true)
      expect(ignored).toContain(`!${path}`)
    }
    expect(lines).toContain('USER 10001:10001')
    expect(lines).toContain('ENTRYPOINT ["node", "/app/dist/core/cli/main.js"]')
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    expect(parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')).appVersion).toBe(version)
  })

  it('start hub and workers as the chart does', () => {
    const text = configs.hub.content
    expect(parseHub({ path: 'hub.yaml', text }, { env: {}, readFile: String }).mistakes).toEqual([])
    for (const name of ['hub', 'worker-1', 'worker-2']) {
      const { command, read_only, configs: mounted, depends_on } = services[name]
      expect(command[0]).toBe(name.replace(/-\d$/, ''))
      expect(command[command.indexOf('--hub') + 1]).toBe(mounted[0].target)
      expect(read_only).toBe(true)
      for (const other of Object.keys(depends_on)) expect(services[other].healthcheck).toBeDefined()
    }
  })
})

/** Each as its pod would, one after the other. What they wrote to standard output. */
async function runPods(manifests: readonly Manifest[], secrets: typeof SECRETS): Promise<string[]> {
  const told: string[] = []
  for (const workload of workloads(manifests)) {
    using folder = newFolder()
    const { args, env, hubFile } = layPod(workload, manifests, folder, secrets)
    const port = await freePort()
    // Loopback in the place of the pod's network, where nothing of what the pipelines name answers.
    const text = readFileSync(hubFile, 'utf8')
      .replace('0.0.0.0', '127.0.0.1')
      .replace('port: 4000', `port: ${port}`)
    writeFileSync(hubFile, text.replace(/[\w.-]+\.svc:\d+/g, '127.0.0.1:1'))
    const running = folder.start(
      args.map(one => (one === '4000' ? String(port) : one)),
      env,
    )
    await probed(running, port)
    const isWorker = args[0] === 'worker'
    // What a browser on another site could make it ask is not answered; a worker has nothing to ask for.
    if (!isWorker) expect(await statusOf(port, '/api/status', `10.0.0.7:${port}`)).toBe(403)
    expect(await statusOf(port, '/api/status', `localhost:${port}`)).toBe(isWorker ? 404 : 200)
    // As NOTES.txt says it: in the pod's working directory, where the hub's file is not.
    if (!isWorker) expect((await folder.run(['status', '--json'], env)).stdout).toMatch(/"name": ?"try"/)
    running.child.kill('SIGTERM')
    const { code, stdout, stderr } = await running.ended
    expect(code, stderr).toBe(0)
    told.push(stdout.trim())
  }
  return told
}

/** As the kubelet asks: by the pod's address. */
async function probed(running: Running, port: number): Promise<void> {
  for (const path of ['/livez', '/readyz', '/metrics'])
    await until(
      async () => {
        if (running.child.exitCode !== null) throw new Error(`ended: ${(await running.ended).stderr}`)
        return (await statusOf(port, path, `10.0.0.7:${port}`)) === 200
      },
      `${path} is 200`,
      60_000,
    )
}

const statusOf = (port: number, path: string, host: string): Promise<number> =>
  new Promise(resolve => {
    request({ host: '127.0.0.1', port, path, headers: { host } }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', () => resolve(0))
      .end()
  })
