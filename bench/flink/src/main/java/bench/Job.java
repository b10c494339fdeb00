package bench;

import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.AsyncDataStream;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * TriggerJob's pipeline on Flink: Kafka, keyBy user, state, filter, action. All arguments are named
 * by the harness (bench/flink-cluster.ts); everything else is in the cluster's configuration.
 */
public final class Job {
  private static final int WEBHOOKS_IN_FLIGHT = 200;
  private static final int WEBHOOK_LIMIT_SECONDS = 30;

  private Job() {}

  public static void main(String[] arguments) throws Exception {
    Args args = new Args(arguments);
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
    UserStateManager manager =
        args.is("layout", "one-value") ? new OneValueState(args) : new TunedState(args);
    DataStream<byte[]> fired =
        env.fromSource(source(args), WatermarkStrategy.noWatermarks(), "Source")
            .uid("source")
            .keyBy(event -> event.userId, Types.STRING)
            .process(manager, TypeInformation.of(EnrichedEvent.class))
            .name("UserStateManager")
            .uid("state")
            .filter(new ScriptFilter(args.text("script")))
            .name("EventFilter")
            .uid("filter")
            .process(
                new FiredCounter(), PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)
            .name("ActionExecutor")
            .uid("action");
    if (args.is("webhook", "none")) {
      fired.sinkTo(new DiscardingSink<>()).name("BlackHole").uid("end");
    } else {
      AsyncDataStream.unorderedWait(
              fired,
              new Webhook(args.text("webhook")),
              WEBHOOK_LIMIT_SECONDS,
              TimeUnit.SECONDS,
              WEBHOOKS_IN_FLIGHT)
          .uid("webhook")
          .sinkTo(new DiscardingSink<>())
          .name("Posted")
          .uid("end");
    }
    env.execute("bench");
  }

  private static KafkaSource<Event> source(Args args) {
    return KafkaSource.<Event>builder()
        .setBootstrapServers(args.text("bootstrap"))
        .setTopics(args.text("topic"))
        .setGroupId("bench-flink")
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setProperty("max.poll.records", "4000")
        .setProperty("max.partition.fetch.bytes", "4194304")
        .setProperty("receive.buffer.bytes", "1048576")
        .setDeserializer(new EventSchema())
        .build();
  }
}
