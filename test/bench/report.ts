/** What benches print, and what a process has used. */
import { readFileSync } from 'node:fs'

export const thousands = (n: number): string => new Intl.NumberFormat('en').format(Math.round(n))

export const line = (what: string, rate: number | null, more = ''): void =>
  void process.stdout.write(
    `${what.padEnd(52)}${(rate === null ? '' : `${thousands(rate)}/s`).padStart(14)}  ${more}\n`,
  )

export interface Spent {
  readonly peakMb: number
  readonly cpuSeconds: number
}

/** null: there is no such process any more. One that has ended and is not reaped yet has a peak of 0. */
export function procOf(pid: number): Spent | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const peakMb = Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024)
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return { peakMb, cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100 }
  } catch {
    return null
  }
}
