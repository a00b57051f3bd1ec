package root;

import java.util.List;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.rest.RestChannel;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/** GET / and HEAD /, which clients ask first: the module that answers them is not published. */
class RootHandler implements RestHandler {
  @Override
  public List<Route> routes() {
    return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
  }

  @Override
  public void handleRequest(RestRequest request, RestChannel channel, NodeClient client) {
    Build build = Build.current();
    String json = """
        {"name":"%s","cluster_name":"%s","version":{"number":"%s","build_flavor":"default","build_type":"%s",\
        "build_hash":"%s","build_date":"%s","build_snapshot":%s,"lucene_version":"%s",\
        "minimum_wire_compatibility_version":"%s","minimum_index_compatibility_version":"%s"},\
        "tagline":"You Know, for Search"}""".formatted(
        client.settings().get("node.name"), client.settings().get("cluster.name"), build.version(),
        build.type().displayName(), build.hash(), build.date(), build.isSnapshot(),
        org.apache.lucene.util.Version.LATEST, build.minWireCompatVersion(), build.minIndexCompatVersion());
    channel.sendResponse(new RestResponse(RestStatus.OK, "application/json", json));
  }
}
