/** The rights that docs/kafka.md says a user needs, as the client takes them. */
import { readFileSync } from 'node:fs'
import kafkajs, { type AclEntry } from 'kafkajs'
import { expect } from 'vitest'

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs

/** The lines of the docs, for these names. */
export function aclsOfDocs(principal: string, topics: string, hub: string): AclEntry[] {
  const page = readFileSync(new URL('../../../docs/kafka.md', import.meta.url), 'utf8')
  const lines = page.replaceAll(' \\\n', ' ').match(/^kafka-acls .*$/gm)!
  expect(lines.length).toBe(3)
  const kinds = {
    topic: AclResourceTypes.TOPIC,
    group: AclResourceTypes.GROUP,
    'transactional-id': AclResourceTypes.TRANSACTIONAL_ID,
  }
  return lines.flatMap(line => {
    const [, kind, name] = /--(topic|group|transactional-id) (\S+)/.exec(line)!
    expect(line).toContain('--resource-pattern-type prefixed')
    return [...line.matchAll(/--operation (\w+)/g)].map(
      ([, operation]): AclEntry => ({
        resourceType: kinds[kind as keyof typeof kinds],
        resourceName: name === 'shop.' ? topics : hub,
        resourcePatternType: ResourcePatternTypes.PREFIXED,
        principal,
        host: '*',
        operation:
          AclOperationTypes[
            operation!.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase() as keyof typeof AclOperationTypes
          ],
        permissionType: AclPermissionTypes.ALLOW,
      }),
    )
  })
}
