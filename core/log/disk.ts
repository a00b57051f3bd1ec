/**
 * The few file operations the embedded log stands on: an input, so that the simulation can put a disk under it that forgets
 * whatever was not synced, directory entries too, and that runs full. `nodeDisk` is the real one.
 */

export interface DiskFile {
  /** Writes all of `bytes` at `position` or throws; after a throw the file's content behind `position` is unknown. */
  write(bytes: Uint8Array, position: number): Promise<void>
  /** Reads up to `length` bytes into `into` at 0; answers how many (fewer: end of file). */
  read(into: Uint8Array, length: number, position: number): Promise<number>
  /** fdatasync. After a throw nothing is known about what was written since the last sync (J3). */
  sync(): Promise<void>
  truncate(length: number): Promise<void>
  size(): Promise<number>
  close(): Promise<void>
}

export interface Disk {
  /** Makes the directory and its parents, and syncs the entries. */
  mkdir(path: string): Promise<void>
  /** Names in the directory, sorted. */
  list(path: string): Promise<readonly string[]>
  /** create: a new file, fails when it is there. read: never written through. */
  open(path: string, mode: 'create' | 'read' | 'write'): Promise<DiskFile>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  /** fsync of the directory: creations, renames and removals in it are durable. */
  syncDirectory(path: string): Promise<void>
}
