import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import kafka.server.KafkaConfig;
import kafka.server.KafkaRaftServer;
import kafka.tools.StorageTool;
import org.apache.kafka.common.utils.Time;

/**
 * KafkaNode CONFIG CLUSTER [SCRAM ...]: a broker and controller. Storage that is new it formats itself: most of the time of
 * Kafka's own program for that goes into its start. SCRAM as StorageTool wants it: SCRAM-SHA-256=[name=a,password=b].
 */
public class KafkaNode {
  public static void main(String[] args) {
    try {
      Properties properties = new Properties();
      try (Reader file = Files.newBufferedReader(Path.of(args[0]))) {
        properties.load(file);
      }
      if (Files.notExists(Path.of(properties.getProperty("log.dirs"), "meta.properties"))) format(args);
      KafkaRaftServer node = new KafkaRaftServer(KafkaConfig.fromProps(properties, false), Time.SYSTEM);
      Runtime.getRuntime().addShutdownHook(new Thread(node::shutdown));
      node.startup();
      System.out.println("it listens");
      node.awaitShutdown();
    } catch (Throwable error) {
      error.printStackTrace();
      // Threads that it started before it failed would keep the process.
      Runtime.getRuntime().halt(1);
    }
  }

  private static void format(String[] args) {
    List<String> format = new ArrayList<>(List.of("format", "--config", args[0], "--cluster-id", args[1]));
    // A run that was killed at it may have left a part.
    format.add("--ignore-formatted");
    for (int i = 2; i < args.length; i++) format.addAll(List.of("--add-scram", args[i]));
    ByteArrayOutputStream told = new ByteArrayOutputStream();
    if (StorageTool.execute(format.toArray(String[]::new), new PrintStream(told)) != 0)
      throw new IllegalStateException("the storage could not be formatted: " + told);
  }
}
