import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** The sample request of a model and what the model answered when it was exported. */
final class Sample {
  private static final Set<String> LABELLED = Set.of("label", "outcome", "weight");

  private final JsonArray instances;
  private final JsonArray predictions;
  private final JsonObject schema;

  Sample(Path model) throws IOException {
    Path extra = model.resolve("assets.extra");
    instances = read(extra.resolve("sample_request.json")).getAsJsonArray("instances");
    predictions = read(extra.resolve("sample_response.json")).getAsJsonArray("predictions");
    schema = read(extra.resolve("features.json")).getAsJsonObject("schema");
  }

  private static JsonObject read(Path file) throws IOException {
    return JsonParser.parseString(Files.readString(file)).getAsJsonObject();
  }

  /** The batch for the signature {@code strings}: the texts of each column. */
  Map<String, List<String>> columns() {
    Map<String, List<String>> found = new LinkedHashMap<>();
    for (JsonElement instance : instances) {
      instance.getAsJsonObject().entrySet().forEach(
          field -> found.computeIfAbsent(field.getKey(), name -> new ArrayList<>()).add(field.getValue().getAsString()));
    }
    return found;
  }

  /** The same batch for the signature {@code tsv_unlabelled}; empty if lines have fields that are no inputs. */
  Map<String, List<String>> lines() {
    List<String> names = new ArrayList<>();
    for (JsonElement element : schema.getAsJsonArray("columns")) {
      JsonObject column = element.getAsJsonObject();
      if (!LABELLED.contains(column.get("kind").getAsString())) {
        names.add(column.get("name").getAsString());
      }
    }
    // Inputs have other names than columns where TensorFlow does not allow those.
    if (!columns().keySet().containsAll(names)) {
      return Map.of();
    }
    List<String> lines = new ArrayList<>();
    for (JsonElement instance : instances) {
      List<String> fields = new ArrayList<>();
      names.forEach(name -> fields.add(instance.getAsJsonObject().get(name).getAsString()));
      lines.add(String.join(schema.get("delimiter").getAsString(), fields));
    }
    return Map.of("lines", lines);
  }

  /** The click probabilities that the request must get. */
  double[] expected() {
    double[] found = new double[predictions.size()];
    for (int row = 0; row < found.length; row++) {
      found[row] = predictions.get(row).getAsJsonObject().get("p_click").getAsDouble();
    }
    return found;
  }
}
