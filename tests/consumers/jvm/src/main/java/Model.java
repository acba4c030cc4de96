import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.SessionFunction;
import org.tensorflow.Tensor;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TString;

/** An exported student: texts to click probabilities, through the signatures whose inputs are all string [batch]. */
final class Model implements AutoCloseable {
  private final SavedModelBundle bundle;

  /** Loads a SavedModel folder, such as {@code RUN/students/METHOD/model/1}. */
  Model(String folder) {
    bundle = SavedModelBundle.load(folder, SavedModelBundle.DEFAULT_TAG);
  }

  boolean has(String signature) {
    return bundle.signatures().stream().anyMatch(found -> found.key().equals(signature));
  }

  /** The function of a signature; look it up once. */
  SessionFunction function(String signature) {
    return bundle.function(signature);
  }

  /** Click probabilities of a batch, given as the texts of each input. */
  static float[] score(SessionFunction function, Map<String, List<String>> columns) {
    Map<String, Tensor> inputs = new LinkedHashMap<>();
    try {
      columns.forEach((name, texts) -> inputs.put(name, bytes(texts)));
      try (Result outputs = function.call(inputs)) {
        TFloat32 found = (TFloat32) outputs.get("p_click").orElseThrow();
        float[] probabilities = new float[(int) found.size()];
        for (int row = 0; row < probabilities.length; row++) {
          probabilities[row] = found.getFloat(row);
        }
        return probabilities;
      }
    } finally {
      inputs.values().forEach(Tensor::close);
    }
  }

  private static TString bytes(List<String> texts) {
    List<byte[]> encoded = new ArrayList<>();
    texts.forEach(text -> encoded.add(text.getBytes(StandardCharsets.UTF_8)));
    return TString.tensorOfBytes(NdArrays.vectorOfObjects(encoded.toArray(new byte[0][])));
  }

  @Override
  public void close() {
    bundle.close();
  }
}
