/** What becomes of a column that stands there with another type than the rows now have. */

/** Types that hold all that the ones before them in their list hold. */
export type Ladders = readonly (readonly string[])[]

/** fits: it holds the values as it is. widen: it can be made to. foreign: neither type holds the other's values. */
export type Fit = 'fits' | 'widen' | 'foreign'

/** `text`: what holds the text of anything. A row of before the change may come late, so that a wider column fits. */
export function fitOf(found: string, wanted: string, ladders: Ladders, text: string): Fit {
  if (found === wanted || found === text) return 'fits'
  for (const ladder of ladders) {
    const [at, to] = [ladder.indexOf(found), ladder.indexOf(wanted)]
    if (at >= 0 && to >= 0) return at >= to ? 'fits' : 'widen'
  }
  return wanted === text ? 'widen' : 'foreign'
}
