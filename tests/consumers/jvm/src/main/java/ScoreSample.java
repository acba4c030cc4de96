import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.SessionFunction;
import org.tensorflow.TensorFlow;

/** Scores the sample request of a model; exits with 1 when a click probability is not that of the sample response. */
public final class ScoreSample {
  private static final double TOLERANCE = 1e-6;
  private static final int WARM_UP = 2000;
  private static final int TIMED = 5000;

  /** Takes one argument: the folder of a SavedModel. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1) {
      System.err.println("ScoreSample must have one argument, the folder of a SavedModel. Received: "
          + Arrays.toString(arguments) + ".");
      System.exit(2);
    }
    Sample sample = new Sample(Path.of(arguments[0]));
    boolean agrees;
    try (Model model = new Model(arguments[0])) {
      System.out.println("TensorFlow " + TensorFlow.version() + " on Java " + Runtime.version());
      agrees = check(model, "strings", sample.columns(), sample.expected());
      Map<String, List<String>> lines = sample.lines();
      if (model.has("tsv_unlabelled") && !lines.isEmpty()) {
        agrees &= check(model, "tsv_unlabelled", lines, sample.expected());
      }
    }
    System.exit(agrees ? 0 : 1);
  }

  private static boolean check(
      Model model, String signature, Map<String, List<String>> inputs, double[] expected) {
    SessionFunction function = model.function(signature);
    float[] found = Model.score(function, inputs);
    double worst = found.length == expected.length ? 0 : Double.POSITIVE_INFINITY;
    for (int row = 0; row < Math.min(found.length, expected.length); row++) {
      System.out.printf("%-14s row %d: p_click %.9f, expected %.9f%n", signature, row, found[row], expected[row]);
      worst = Math.max(worst, Math.abs(found[row] - expected[row]));
    }
    boolean agrees = worst <= TOLERANCE;
    System.out.printf("%-14s %s: largest difference %.1e of %d rows; %s%n",
        signature, agrees ? "agrees" : "DIFFERS", worst, expected.length, latency(function, inputs));
    return agrees;
  }

  /** Latency of the first row of a batch, texts to probability. */
  private static String latency(SessionFunction function, Map<String, List<String>> inputs) {
    Map<String, List<String>> row = new LinkedHashMap<>();
    inputs.forEach((name, texts) -> row.put(name, texts.subList(0, 1)));
    long[] nanoseconds = new long[TIMED];
    for (int call = -WARM_UP; call < TIMED; call++) {
      long start = System.nanoTime();
      Model.score(function, row);
      if (call >= 0) {
        nanoseconds[call] = System.nanoTime() - start;
      }
    }
    Arrays.sort(nanoseconds);
    return String.format(
        "one row p50 %.3f ms, p99 %.3f ms", nanoseconds[TIMED / 2] / 1e6, nanoseconds[TIMED * 99 / 100] / 1e6);
  }
}
