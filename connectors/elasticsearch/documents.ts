/** What an index holds, for the demo's comparison. */
import { readDocuments } from '../search/read.ts'
import { connectElasticsearch } from './client.ts'

export async function elasticsearchDocuments(
  url: string,
  index: string,
): Promise<ReadonlyMap<string, string>> {
  const client = await connectElasticsearch({ url, compress: false })
  try {
    return await readDocuments(client, index)
  } finally {
    await client[Symbol.asyncDispose]()
  }
}
