import { describe } from 'vitest'
import { file } from '../../../connectors/file/sink.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { appendingSinkConformance } from '../../conform/sink.ts'
import { objectCases } from '../object/cases.ts'
import { fileTarget, kitTarget } from '../object/objects.ts'

definitionConformance(file)
appendingSinkConformance({
  name: 'file',
  target: async () => kitTarget(fileTarget()),
  bad: good => ({ ...good, after: '{"id":5,"name":' }),
})

describe('file: objects', () => objectCases(fileTarget))
