/**
 * How far the heap grows before V8 looks for garbage in it: left alone, to as much as four times of what lives there. A pipeline keeps
 * little and makes much that dies soon, so that this is memory for nothing: at two and a half times the peak is a fifth lower, and the
 * CPU time the same (`npm run bench -- log-to-objects`).
 */
import { setFlagsFromString } from 'node:v8'

export const HEAP_FLAG = '--heap-growing-percent=150'

/** Of this process, from the next collection on. */
export const boundHeapGrowth = (): void => setFlagsFromString(HEAP_FLAG)
