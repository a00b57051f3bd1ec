/**
 * The made-up shop of the demo: categories, products and reviews, the same on every machine, and a writer that keeps changing
 * it. Makes and writes only the schema `shop`, and refuses one that it did not make. Not part of the connector.
 */
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import { connect } from './connect.ts'

/** Stands as the schema's comment: how a later start knows its own. */
const MARK = 'Made by the Millrace demo. Drop it with: DROP SCHEMA shop CASCADE'

const list = (words: string): string => `(ARRAY['${words.split(' ').join("','")}'])`
/** Picks by a hash of `n`, so that neighbours differ and every machine agrees. */
const pick = (words: string, n: string, salt: number): string =>
  `${list(words)}[1 + abs(hashint4extended((${n})::int, ${salt}) % ${words.split(' ').length})::int]`

const ADJECTIVES =
  'amber quiet nordic folding velvet rustic slim bright heavy tiny royal plain woven striped hollow gentle'
const MATERIALS =
  'oak steel linen glass bamboo leather cotton copper marble wool cork ceramic walnut paper stone silk'
const THINGS =
  'chair lamp table kettle blanket shelf bottle clock basket mirror stool drawer candle rug bowl desk tray hook vase pillow'
const ROOMS = 'kitchen garden bedroom office hallway balcony bathroom workshop nursery cellar'

const SCHEMA = `
CREATE TABLE shop.categories (id int PRIMARY KEY, name text NOT NULL, room text NOT NULL);
CREATE TABLE shop.products (
  id bigint PRIMARY KEY, category_id int NOT NULL REFERENCES shop.categories, name text NOT NULL, description text NOT NULL,
  price numeric(10,2) NOT NULL, stock int NOT NULL, active boolean NOT NULL, tags text[] NOT NULL, attributes jsonb NOT NULL,
  updated_at timestamptz NOT NULL);
CREATE TABLE shop.reviews (
  id bigint PRIMARY KEY, product_id bigint NOT NULL REFERENCES shop.products, author text NOT NULL, rating smallint NOT NULL,
  body text NOT NULL, created_at timestamptz NOT NULL);`

const fill = (products: number, reviews: number): string => `
INSERT INTO shop.categories SELECT i, ${pick(MATERIALS, 'i', 1)} || ' ' || ${pick(THINGS, 'i', 2)} || 's', ${pick(ROOMS, 'i', 3)}
  FROM generate_series(1, 50) i;
INSERT INTO shop.products SELECT i, 1 + i % 50,
  initcap(${pick(ADJECTIVES, 'i', 4)}) || ' ' || ${pick(MATERIALS, 'i', 5)} || ' ' || ${pick(THINGS, 'i', 6)} || ' no. ' || i,
  'The ' || ${pick(ADJECTIVES, 'i', 7)} || ' ' || ${pick(THINGS, 'i', 6)} || ' of ' || ${pick(MATERIALS, 'i', 5)} || ' for the ' || ${pick(ROOMS, 'i', 8)} || ', with ' || ${pick(MATERIALS, 'i', 9)} || ' details.',
  (100 + abs(hashint4extended(i, 10) % 99900)) / 100.0, abs(hashint4extended(i, 11) % 500)::int, i % 17 <> 0,
  ARRAY[${pick(ROOMS, 'i', 8)}, ${pick(MATERIALS, 'i', 5)}],
  jsonb_build_object('weight_g', 50 + abs(hashint4extended(i, 12) % 9000), 'color', ${pick(ADJECTIVES, 'i', 13)}),
  timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'
  FROM generate_series(1, ${products}) i;
INSERT INTO shop.reviews SELECT i, 1 + abs(hashint4extended(i, 14) % ${products}), initcap(${pick(ADJECTIVES, 'i', 15)}),
  (1 + abs(hashint4extended(i, 16) % 5))::smallint, 'The ' || ${pick(THINGS, 'i', 17)} || ' is ' || ${pick(ADJECTIVES, 'i', 18)} || '.',
  timestamptz '2026-02-01 00:00:00+00' + i * interval '1 second'
  FROM generate_series(1, ${reviews}) i;
ANALYZE shop.categories; ANALYZE shop.products; ANALYZE shop.reviews;`

/** Makes the shop unless it is there. Throws `config` when a schema `shop` is there that the demo did not make. */
async function prepareShop(client: pg.ClientBase, products: number): Promise<'made' | 'kept'> {
  const found = await client.query<{ comment: string | null }>(
    `SELECT obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace WHERE nspname = 'shop'`,
  )
  if (found.rows[0]) {
    if (found.rows[0].comment === MARK) return 'kept'
    throw new ConnectorError(
      'config',
      'the database already has a schema "shop" that the demo did not make; it will not touch it',
      {
        hint: "Set DATABASE_URL to another database, or unset it to use the demo's own PostgreSQL.",
      },
    )
  }
  await client.query('BEGIN')
  await client.query(`CREATE SCHEMA shop; COMMENT ON SCHEMA shop IS '${MARK}'`)
  await client.query(SCHEMA)
  await client.query(fill(products, Math.floor(products / 4)))
  await client.query('COMMIT')
  return 'made'
}

/** One change of one row, the n-th: prices, stock, names, new and withdrawn reviews, a product gone and another come. */
async function changeShop(client: pg.ClientBase, n: number, products: number): Promise<void> {
  const product = 1 + Math.abs((n * 7919) % products)
  const at = "updated_at = date_trunc('second', now())"
  const kind = n % 10
  if (kind < 4)
    await client.query(
      `UPDATE shop.products SET price = round((price * 1.01 + 0.01) % 90000, 2), ${at} WHERE id = $1`,
      [product],
    )
  else if (kind < 6)
    await client.query(`UPDATE shop.products SET stock = (stock + 7) % 500, ${at} WHERE id = $1`, [product])
  else if (kind === 6)
    await client.query(
      `UPDATE shop.products SET name = split_part(name, ' (', 1) || ' (edition ' || $2::int || ')', ${at} WHERE id = $1`,
      [product, n],
    )
  else if (kind < 9)
    await client.query(
      `INSERT INTO shop.reviews SELECT coalesce(max(id), 0) + 1, $1, 'Live', (1 + $2::int % 5)::smallint, 'Change number ' || $2::int || ' of the demo.', date_trunc('second', now()) FROM shop.reviews`,
      [product, n],
    )
  else await client.query('DELETE FROM shop.reviews WHERE id = (SELECT min(id) FROM shop.reviews)')
}

const WHOLE_SECOND = `'YYYY-MM-DD"T"HH24:MI:SS"Z"'`
const EXPECTED: Readonly<Record<string, string>> = {
  categories: `SELECT id::text, jsonb_build_object('id', id, 'name', name, 'room', room)::text AS document FROM shop.categories`,
  products: `SELECT id::text, jsonb_build_object('id', id, 'category_id', category_id, 'name', name, 'description', description, 'price', price, 'stock', stock,
    'active', active, 'tags', tags, 'attributes', attributes, 'updated_at', to_char(updated_at AT TIME ZONE 'UTC', ${WHOLE_SECOND}))::text AS document FROM shop.products`,
  reviews: `SELECT id::text, jsonb_build_object('id', id, 'product_id', product_id, 'author', author, 'rating', rating, 'body', body,
    'created_at', to_char(created_at AT TIME ZONE 'UTC', ${WHOLE_SECOND}))::text AS document FROM shop.reviews`,
}
const SHOP_TABLES: readonly string[] = Object.keys(EXPECTED)

/** What the index must hold of a table, made by SQL alone: id → JSON text. */
async function expectedDocuments(client: pg.ClientBase, table: string): Promise<ReadonlyMap<string, string>> {
  const { rows } = await client.query<{ id: string; document: string }>(EXPECTED[table]!)
  return new Map(rows.map(row => [row.id, row.document]))
}

export interface Shop extends AsyncDisposable {
  readonly tables: readonly string[]
  /** Makes the shop unless it is there. Throws `config` when a schema `shop` is there that the demo did not make. */
  prepare(): Promise<'made' | 'kept'>
  /** One change of one row, the n-th. */
  change(n: number): Promise<void>
  /** What the index must hold of a table, made by SQL alone: id → JSON text. */
  expected(table: string): Promise<ReadonlyMap<string, string>>
}

export async function openShop(url: string, products: number): Promise<Shop> {
  const client = await connect({ url }, { applicationName: 'millrace demo' })
  return {
    tables: SHOP_TABLES,
    prepare: () => prepareShop(client, products),
    change: n => changeShop(client, n, products),
    expected: table => expectedDocuments(client, table),
    [Symbol.asyncDispose]: () => client.end(),
  }
}
