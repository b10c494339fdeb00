package bench;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.util.Collector;

/**
 * {@code --layout tuned}: the best that was found with Flink's state. An event reads and writes 44
 * bytes and blindly puts its own text; all else is written on a miss only.
 *
 * <pre>
 * head     what an event changes, see the offsets below
 * profile  JSON text
 * visit    its text without the counters, which are in head
 * base     the fetched history: (i32 length, text)*; dropped once 100 newer events came
 * ring     count % 100 -> an event's text, so the oldest is overwritten without a read
 * </pre>
 *
 * The last access is in head, and one timer per user, set again when it fires early, clears idle
 * users: Flink's own TTL would rewrite profile, visit and base with every event to reset theirs.
 */
final class TunedState extends UserStateManager implements EnrichedEvent.UserView {
  private static final TypeInformation<byte[]> BYTES =
      PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
  private static final int RING = Dataset.HISTORY_EVENTS;
  private static final int PAGEVIEWS = 0;
  private static final int LAST_EVENT = 8;
  private static final int LAST_ACCESS = 16;
  private static final int TIMER_AT = 24;
  private static final int LAST_SEQUENCE = 32;
  private static final int COUNT = 36;
  private static final int BASE_COUNT = 40;
  private static final int HEAD_BYTES = 44;

  private transient ValueState<byte[]> headState;
  private transient ValueState<byte[]> profileState;
  private transient ValueState<byte[]> visitState;
  private transient ValueState<byte[]> baseState;
  private transient MapState<Integer, byte[]> ring;
  private transient ByteBuffer head;

  TunedState(Args args) {
    super(args);
  }

  @Override
  public void open(OpenContext context) throws Exception {
    super.open(context);
    headState = getRuntimeContext().getState(new ValueStateDescriptor<>("head", BYTES));
    profileState = getRuntimeContext().getState(new ValueStateDescriptor<>("profile", BYTES));
    visitState = getRuntimeContext().getState(new ValueStateDescriptor<>("visit", BYTES));
    baseState = getRuntimeContext().getState(new ValueStateDescriptor<>("base", BYTES));
    ring = getRuntimeContext().getMapState(new MapStateDescriptor<>("ring", Types.INT, BYTES));
  }

  @Override
  EnrichedEvent.UserView apply(Event event, Context context) throws Exception {
    long now = context.timerService().currentProcessingTime();
    byte[] stored = headState.value();
    if (stored != null && ByteBuffer.wrap(stored).getLong(LAST_ACCESS) + ttlMs <= now) {
      ring.clear();
      stored = null;
    }
    if (stored == null) {
      stored = create(event, now + ttlMs);
      context.timerService().registerProcessingTimeTimer(now + ttlMs);
    }
    head = ByteBuffer.wrap(stored);
    checkSequence(event, head.getInt(LAST_SEQUENCE));
    int count = head.getInt(COUNT);
    ring.put(count % RING, event.raw);
    count++;
    if (count == RING) {
      baseState.clear();
      head.putInt(BASE_COUNT, 0);
    }
    // It keeps its slot and says that the ring is full; beyond that it would overflow one day.
    if (count == 2 * RING) {
      count = RING;
    }
    head.putLong(PAGEVIEWS, head.getLong(PAGEVIEWS) + 1).putLong(LAST_EVENT, event.eventId);
    head.putLong(LAST_ACCESS, now).putInt(LAST_SEQUENCE, event.sequence).putInt(COUNT, count);
    headState.update(stored);
    return this;
  }

  private byte[] create(Event event, long timerAt) throws Exception {
    ProfileClient.User user = fetch(event.userId);
    profileState.update(user.profile());
    visitState.update(user.visit().rest());
    baseState.update(joined(user.history()));
    byte[] created = new byte[HEAD_BYTES];
    ByteBuffer fields = ByteBuffer.wrap(created).putLong(PAGEVIEWS, user.visit().pageviews());
    fields.putLong(TIMER_AT, timerAt).putInt(LAST_SEQUENCE, event.sequence - 1);
    fields.putInt(BASE_COUNT, user.history().size());
    return created;
  }

  private static byte[] joined(List<byte[]> events) {
    int bytes = 0;
    for (byte[] event : events) {
      bytes += 4 + event.length;
    }
    ByteBuffer out = ByteBuffer.allocate(bytes);
    for (byte[] event : events) {
      out.putInt(event.length).put(event);
    }
    return out.array();
  }

  @Override
  public void onTimer(long timestamp, OnTimerContext context, Collector<EnrichedEvent> out)
      throws Exception {
    byte[] stored = headState.value();
    if (stored == null || ByteBuffer.wrap(stored).getLong(TIMER_AT) != timestamp) {
      return; // of an earlier life of this user
    }
    ByteBuffer fields = ByteBuffer.wrap(stored);
    long due = fields.getLong(LAST_ACCESS) + ttlMs;
    if (due > context.timerService().currentProcessingTime()) {
      fields.putLong(TIMER_AT, due);
      headState.update(stored);
      context.timerService().registerProcessingTimeTimer(due);
      return;
    }
    headState.clear();
    profileState.clear();
    visitState.clear();
    baseState.clear();
    ring.clear();
  }

  @Override
  public byte[] profile() throws Exception {
    return profileState.value();
  }

  @Override
  public byte[] visit() throws Exception {
    byte[] rest = visitState.value();
    return ProfileClient.Visit.json(rest, head.getLong(PAGEVIEWS), head.getLong(LAST_EVENT));
  }

  @Override
  public int history(byte[][] out) throws Exception {
    int count = head.getInt(COUNT);
    int inRing = Math.min(count, RING);
    int fromBase = Math.min(head.getInt(BASE_COUNT), RING - inRing);
    if (fromBase > 0) {
      ByteBuffer base = ByteBuffer.wrap(baseState.value());
      for (int skip = head.getInt(BASE_COUNT) - fromBase; skip > 0; skip--) {
        base.position(base.position() + 4 + base.getInt(base.position()));
      }
      for (int i = 0; i < fromBase; i++) {
        int start = base.position() + 4;
        int end = start + base.getInt(base.position());
        out[i] = Arrays.copyOfRange(base.array(), start, end);
        base.position(end);
      }
    }
    int oldest = count - inRing;
    for (Map.Entry<Integer, byte[]> slot : ring.entries()) {
      out[fromBase + Math.floorMod(slot.getKey() - oldest, RING)] = slot.getValue();
    }
    return fromBase + inRing;
  }
}
