package bench;

import java.util.List;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Counts what fired and adds up its ids, in checkpointed state; builds the body, which goes on to
 * the webhook or, with the black hole, nowhere: TriggerJob's black hole gets it built, too.
 */
final class FiredCounter extends ProcessFunction<EnrichedEvent, byte[]>
    implements CheckpointedFunction {
  private transient ListState<Long> state;
  private transient Progress progress;
  private long fired;
  private long sum;

  @Override
  public void processElement(EnrichedEvent enriched, Context context, Collector<byte[]> out)
      throws Exception {
    fired++;
    sum += enriched.event.eventId;
    progress.fired.lazySet(fired);
    progress.firedSum.lazySet(sum);
    out.collect(enriched.json());
  }

  @Override
  public void snapshotState(FunctionSnapshotContext context) throws Exception {
    state.update(List.of(fired, sum));
  }

  @Override
  public void initializeState(FunctionInitializationContext context) throws Exception {
    progress = Progress.of(getRuntimeContext().getTaskInfo().getIndexOfThisSubtask());
    fired = 0;
    sum = 0;
    var descriptor = new ListStateDescriptor<>("fired", Types.LONG);
    state = context.getOperatorStateStore().getListState(descriptor);
    boolean isCount = true;
    for (long value : state.get()) {
      if (isCount) {
        fired += value;
      } else {
        sum += value;
      }
      isCount = !isCount;
    }
    progress.fired.set(fired);
    progress.firedSum.set(sum);
  }
}
