package org.apache.beam.runners.flink;

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Takes the place of Beam's entry point where its jar cannot be had. It checks that a pipeline of ours arrived
 * with its options, then keeps the slots that it asks for busy for as many seconds as the job's name says; where
 * it says 0, it fails as Beam does when a Python worker refuses an element. It does none of Beam's work.
 */
public class FlinkPipelineRunner {
  private static final String WORKER_SAYS =
      "Error received from SDK harness for instruction 4: Traceback (most recent call last):\n"
          + "  File \"reader.py\", line 1, in process\n"
          + "dlts_beam.errors.DltsError: cannot read image_7.tif: it is cut short; copy it again"
          + " [while running 'Read-ptransform-9']\n";

  public static void main(String[] arguments) throws Exception {
    String pipeline = read("BEAM-PIPELINE/pipeline/pipeline.json");
    String options = read("BEAM-PIPELINE/pipeline/pipeline-options.json");
    if (!pipeline.contains("beam:env:external:v1")) {
      throw new IllegalStateException("the pipeline has no worker pool");
    }
    int slots = Integer.parseInt(find("\"beam:option:parallelism:v1\":\\s*\"(\\d+)\"", options));
    int seconds = Integer.parseInt(find("\"beam:option:job_name:v1\":\\s*\"stand-in-(\\d+)\"", options));
    StreamExecutionEnvironment flink = StreamExecutionEnvironment.getExecutionEnvironment();
    flink.setParallelism(slots);
    flink.fromSequence(1, Math.max(1, 10L * seconds * slots))
        .map(
            number -> {
              if (seconds == 0) {
                throw new RuntimeException(WORKER_SAYS);
              }
              Thread.sleep(100);
              return number;
            })
        .sinkTo(new DiscardingSink<>());
    flink.execute("stand-in");
  }

  private static String read(String name) throws Exception {
    try (InputStream stream = FlinkPipelineRunner.class.getClassLoader().getResourceAsStream(name)) {
      if (stream == null) {
        throw new IllegalStateException("the jar lacks " + name);
      }
      return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  private static String find(String pattern, String text) {
    Matcher found = Pattern.compile(pattern).matcher(text);
    if (!found.find()) {
      throw new IllegalStateException("the options lack " + pattern);
    }
    return found.group(1);
  }
}
