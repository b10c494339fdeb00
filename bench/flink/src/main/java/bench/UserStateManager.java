package bench;

import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * What both layouts of the state share. Per event: one append to the history, one more pageview,
 * the last event's id; a missing user is fetched first.
 */
abstract class UserStateManager extends KeyedProcessFunction<String, Event, EnrichedEvent>
    implements CheckpointedFunction {
  final long ttlMs;
  private final Args args;
  private final boolean eager;
  private transient ProfileClient profiles;
  private transient Progress progress;
  private transient EnrichedEvent enriched;
  private transient ListState<Long> countedState;
  private long processed;
  private long misses;
  private long anomalies;
  private long counted;

  UserStateManager(Args args) {
    this.args = args;
    ttlMs = args.number("ttl-ms");
    eager = args.is("history", "eager");
  }

  /** Brings the user's state up to date with the event; the view is valid until the next one. */
  abstract EnrichedEvent.UserView apply(Event event, Context context) throws Exception;

  @Override
  public void open(OpenContext context) throws Exception {
    profiles = new ProfileClient(args);
    enriched = new EnrichedEvent();
  }

  ProfileClient.User fetch(String userId) {
    progress.misses.lazySet(++misses);
    return profiles.fetch(userId);
  }

  void checkSequence(Event event, int last) {
    if (event.sequence != last + 1) {
      progress.anomalies.lazySet(++anomalies);
    }
  }

  @Override
  public void processElement(Event event, Context context, Collector<EnrichedEvent> out)
      throws Exception {
    enriched.set(event, apply(event, context));
    if (eager) {
      enriched.profile();
      enriched.visit();
      enriched.historyCount();
    }
    out.collect(enriched);
    progress.processed.lazySet(++processed);
    progress.counted.lazySet(++counted);
    progress.timestamps.lazySet(event.partition, event.timestamp);
  }

  @Override
  public void snapshotState(FunctionSnapshotContext context) throws Exception {
    countedState.update(List.of(counted));
  }

  @Override
  public void initializeState(FunctionInitializationContext context) throws Exception {
    progress = Progress.of(getRuntimeContext().getTaskInfo().getIndexOfThisSubtask());
    Progress.writeTo(args.text("progress"));
    processed = progress.processed.get();
    misses = progress.misses.get();
    anomalies = progress.anomalies.get();
    counted = 0;
    var descriptor = new ListStateDescriptor<>("counted", Types.LONG);
    countedState = context.getOperatorStateStore().getListState(descriptor);
    for (long part : countedState.get()) {
      counted += part;
    }
    progress.counted.set(counted);
  }
}
