import java.lang.reflect.Constructor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.PluginInfo;

/** OpenSearchServer HOME [SETTING=VALUE ...]: one node with its modules (and the security plugin) from the class path. */
@SuppressWarnings({"unchecked", "rawtypes"})
public class OpenSearchServer extends Node {
  /** 2 calls them ...Plugin, 3 ...ModulePlugin. */
  private static final String[] MODULES = {
    "transport.Netty4", "analysis.common.CommonAnalysis", "index.mapper.MapperExtras", "painless.Painless",
    "script.expression.Expression", "script.mustache.Mustache", "index.reindex.Reindex",
    "ingest.common.IngestCommon", "join.ParentJoin", "percolator.Percolator", "geo.Geo", "security.OpenSearchSecurity",
  };

  /** 2 wants the classes of plugins here, 3 descriptions of them: hence a list of anything. */
  private OpenSearchServer(Environment environment, Collection plugins) {
    super(environment, plugins, false);
  }

  public static void main(String[] args) throws Exception {
    Lifeline.serve(() -> start(args));
  }

  private static Node start(String[] args) throws Exception {
    Path home = Path.of(args[0]);
    Path config = Files.createDirectories(home.resolve("config"));
    Settings.Builder settings = Settings.builder().put("path.home", home.toString());
    for (int i = 1; i < args.length; i++) {
      int at = args[i].indexOf('=');
      settings.put(args[i].substring(0, at), args[i].substring(at + 1));
    }
    Environment environment =
        InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), config, () -> "node-1");
    boolean wantsInfo = false;
    for (Constructor<?> made : Node.class.getDeclaredConstructors())
      wantsInfo |= made.toGenericString().contains("PluginInfo");
    Collection<Object> plugins = new ArrayList<>();
    for (String module : MODULES) {
      Class<? extends Plugin> found = find("org.opensearch." + module);
      if (found != null) plugins.add(wantsInfo ? describe(found) : found);
    }
    Node node = new OpenSearchServer(environment, plugins);
    node.start();
    return node;
  }

  private static Class<? extends Plugin> find(String name) throws ClassNotFoundException {
    boolean hasThai = org.apache.lucene.analysis.th.ThaiTokenizer.DBBI_AVAILABLE;
    if (name.endsWith("CommonAnalysis") && !hasThai) return Class.forName("WithoutThai").asSubclass(Plugin.class);
    for (String ending : new String[] {"ModulePlugin", "Plugin"})
      try {
        return Class.forName(name + ending).asSubclass(Plugin.class);
      } catch (ClassNotFoundException another) {
        // the other name, or left out: security
      }
    return null;
  }

  private static PluginInfo describe(Class<? extends Plugin> found) {
    String java = String.valueOf(Runtime.version().feature());
    String name = found.getName();
    return new PluginInfo(
        name, "a module", "0", org.opensearch.Version.CURRENT, java, name, null, List.of(), false);
  }
}
