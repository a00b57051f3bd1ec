/**
 * `${NAME}` where `${env:NAME}` was meant. `${table}` and its like are filled by sinks, per record: nobody else would fill one,
 * and none of them is the name of a variable that is set.
 */
import type { Read, Tree } from './document.ts'
import type { Mistake } from './mistake.ts'
import { leavesOf } from './validate.ts'

const PLACEHOLDER = /(?<!\$)\$\{([A-Za-z_][\w.]*)\}/g

/** `areFilled`: the tree is a sink's. */
export function misplacedReferences(
  tree: Tree,
  read: Read,
  env: Readonly<Record<string, string | undefined>>,
  areFilled: boolean,
): readonly Mistake[] {
  return leavesOf(tree).flatMap(leaf => {
    if (typeof leaf.value !== 'string') return []
    // As it was written: what a variable holds is no placeholder.
    return [...leaf.source.matchAll(PLACEHOLDER)]
      .filter(([, name]) => !areFilled || (/^[A-Z][A-Z0-9_]*$/.test(name!) && Object.hasOwn(env, name!)))
      .map(({ 0: text, 1: name, index }) =>
        read.mistakeAt(
          leaf.at + index,
          `"${text}" is filled by nobody; an environment variable is "\${env:${name}}", a \${ as it stands "$\${"`,
        ),
      )
  })
}
