// Kafka Streams over a topic of Millrace: how many items there are of each kind, and what they cost together.
//   java -cp 'lib/*' ItemTotals.java localhost:9092 shop.generate.items item-totals
// lib/ holds org.apache.kafka:kafka-streams and what it needs (mvn dependency:copy-dependencies).
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

public class ItemTotals {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] args) {
    var builder = new StreamsBuilder();
    KTable<String, String> items = builder
        .stream(args[1], Consumed.with(Serdes.String(), Serdes.String()))
        .filter((key, change) -> !key.startsWith("{\"sweep\":")) // TRUNCATE and the like: see docs/read-topics.md
        .mapValues(ItemTotals::rowOf) // null: the row is gone
        .toTable(Materialized.with(Serdes.String(), Serdes.String()));
    items
        .groupBy((key, row) -> KeyValue.pair(kindOf(row), row), Grouped.with(Serdes.String(), Serdes.String()))
        .aggregate(
            () -> "0 0",
            (kind, row, total) -> add(total, 1, priceOf(row)),
            (kind, row, total) -> add(total, -1, priceOf(row).negate()),
            Materialized.with(Serdes.String(), Serdes.String()))
        .toStream()
        .to(args[2], Produced.with(Serdes.String(), Serdes.String()));

    var settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "item-totals");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    // Each batch of Millrace is a transaction; with this the reader sees those that were committed, and its own effect is once, too.
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put("auto.offset.reset", "earliest");
    settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("java.io.tmpdir"));
    var streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static JsonNode parse(String text) {
    try {
      return JSON.readTree(text);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static String rowOf(String change) {
    JsonNode after = parse(change).get("after");
    return after.isNull() ? null : after.toString();
  }

  private static String kindOf(String row) {
    return parse(row).get("name").asText().split(" ")[0];
  }

  private static BigDecimal priceOf(String row) {
    return new BigDecimal(parse(row).get("price").asText()); // numeric is a string in the log: no digit is lost
  }

  private static String add(String total, int count, BigDecimal price) {
    String[] parts = total.split(" ");
    return (Long.parseLong(parts[0]) + count) + " " + new BigDecimal(parts[1]).add(price);
  }
}
