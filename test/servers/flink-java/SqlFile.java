import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/** The statements of a file, as Flink's own SQL client runs them, in this process; ends with the last one's job. */
public final class SqlFile {
  public static void main(String[] args) throws Exception {
    var flink = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
    var text = Files.readString(Path.of(args[0])).replaceAll("(?m)^--.*$", "");
    TableResult last = null;
    for (String statement : text.split(";\\s*(\\n|$)")) {
      if (statement.isBlank()) continue;
      if (statement.strip().startsWith("SET ")) {
        String[] parts = statement.split("'");
        flink.getConfig().set(parts[1], parts[3]);
      } else last = flink.executeSql(statement);
    }
    System.out.println("running");
    if (last != null) last.await();
  }
}
