import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

/** ElasticsearchServer HOME MODULES [SETTING=VALUE ...]: one node, without the launcher that only the download has. */
public class ElasticsearchServer {
  public static void main(String[] args) throws Exception {
    Lifeline.serve(() -> start(args));
  }

  private static Node start(String[] args) throws Exception {
    Path home = Path.of(args[0]);
    Path config = Files.createDirectories(home.resolve("config"));
    Files.createDirectories(home.resolve("plugins"));
    Settings.Builder settings = Settings.builder().put("path.home", home.toString());
    for (int i = 2; i < args.length; i++) {
      int at = args[i].indexOf('=');
      settings.put(args[i].substring(0, at), args[i].substring(at + 1));
    }
    LogConfigurator.configureESLogging();
    Environment environment =
        InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), config, () -> "node-1");
    Set<PluginBundle> modules = modulesIn(Path.of(args[1]));
    Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of(), false));
    node.start();
    return node;
  }

  /** 8 takes the folder, 9 also whether it is serverless. */
  @SuppressWarnings("unchecked")
  private static Set<PluginBundle> modulesIn(Path folder) throws Exception {
    for (Method method : PluginsLoader.class.getMethods())
      if (method.getName().equals("loadModulesBundles")) {
        boolean is8 = method.getParameterCount() == 1;
        return (Set<PluginBundle>) (is8 ? method.invoke(null, folder) : method.invoke(null, folder, false));
      }
    throw new NoSuchMethodException("loadModulesBundles");
  }
}
