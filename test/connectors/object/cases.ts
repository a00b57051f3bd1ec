/** What object sinks do with names, folders, rotation, shapes, deletes and formats: cases that hold for every store. */
import { describe } from 'vitest'
import { folderCases } from './folder-cases.ts'
import { nameCases } from './name-cases.ts'
import type { ObjectTarget } from './objects.ts'
import { ownerCases } from './owner-cases.ts'
import { recordCases } from './record-cases.ts'
import { rotationCases } from './rotation-cases.ts'
import { placesOf } from './sink-place.ts'

export function objectCases(makeTarget: () => ObjectTarget): void {
  const on = placesOf(makeTarget)
  describe('names', () => nameCases(on))
  describe('folders', () => folderCases(on))
  describe('rotation', () => rotationCases(on))
  describe('records', () => recordCases(on))
  describe('owners', () => ownerCases(on))
}
