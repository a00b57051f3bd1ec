import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.lucene.analysis.Analyzer;
import org.opensearch.analysis.common.CommonAnalysisModulePlugin;
import org.opensearch.index.analysis.AnalyzerProvider;
import org.opensearch.index.analysis.PreBuiltAnalyzerProviderFactory;
import org.opensearch.index.analysis.TokenizerFactory;
import org.opensearch.indices.analysis.AnalysisModule.AnalysisProvider;

/** For a slim Java that knows no Thai word breaks: the server does not start with an analyzer it cannot make. */
public class WithoutThai extends CommonAnalysisModulePlugin {
  @Override
  public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
    return without(super.getAnalyzers());
  }

  @Override
  public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
    return without(super.getTokenizers());
  }

  @Override
  public List<PreBuiltAnalyzerProviderFactory> getPreBuiltAnalyzerProviderFactories() {
    var all = new ArrayList<>(super.getPreBuiltAnalyzerProviderFactories());
    all.removeIf(one -> one.getName().equals("thai"));
    return all;
  }

  private static <T> Map<String, T> without(Map<String, T> all) {
    var left = new TreeMap<>(all);
    left.remove("thai");
    return left;
  }
}
