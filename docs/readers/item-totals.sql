-- Flink SQL over the rows that a sink of Millrace writes into Kafka (`type: kafka`, `view: row`): how many items there are of
-- each kind, and what they cost together. An update or a delete takes the old row out of the totals.
SET 'execution.checkpointing.interval' = '1s';

CREATE TABLE items (
  id BIGINT,
  name STRING,
  price DECIMAL(12, 2),
  note STRING,
  PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'generate.items',
  'properties.bootstrap.servers' = 'localhost:9092',
  'properties.isolation.level' = 'read_committed',
  'key.format' = 'json',
  'value.format' = 'json'
);

CREATE TABLE totals (
  kind STRING,
  items BIGINT,
  price DECIMAL(38, 2),
  PRIMARY KEY (kind) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'item-totals',
  'properties.bootstrap.servers' = 'localhost:9092',
  'key.format' = 'json',
  'value.format' = 'json'
);

INSERT INTO totals
SELECT SPLIT_INDEX(name, ' ', 0), COUNT(*), SUM(price)
FROM items
GROUP BY SPLIT_INDEX(name, ' ', 0);
