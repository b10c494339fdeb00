package bench;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;

/**
 * {@code --layout one-value}: one ValueState of one object per user with Flink's own serializers,
 * and Flink's TTL, reset by the write of every event. What a document that says "the user's
 * checkpoint" leads to.
 */
final class OneValueState extends UserStateManager implements EnrichedEvent.UserView {
  /** A POJO in Flink's sense: public, with public fields. */
  public static final class UserCheckpoint {
    public String profile;
    public String visit;
    public long pageviews;
    public long lastEvent;
    public int lastSequence;
    public List<String> history;
  }

  private transient ValueState<UserCheckpoint> state;
  private transient UserCheckpoint user;

  OneValueState(Args args) {
    super(args);
  }

  @Override
  public void open(OpenContext context) throws Exception {
    super.open(context);
    var type =
        Types.POJO(
            UserCheckpoint.class,
            Map.of(
                "profile", Types.STRING,
                "visit", Types.STRING,
                "pageviews", Types.LONG,
                "lastEvent", Types.LONG,
                "lastSequence", Types.INT,
                "history", Types.LIST(Types.STRING)));
    var descriptor = new ValueStateDescriptor<>("user", type);
    descriptor.enableTimeToLive(
        StateTtlConfig.newBuilder(Duration.ofMillis(ttlMs))
            .setUpdateType(StateTtlConfig.UpdateType.OnCreateAndWrite)
            .cleanupInRocksdbCompactFilter(10_000)
            .build());
    state = getRuntimeContext().getState(descriptor);
  }

  @Override
  EnrichedEvent.UserView apply(Event event, Context context) throws Exception {
    user = state.value();
    if (user == null) {
      user = create(event);
    }
    checkSequence(event, user.lastSequence);
    if (user.history.size() >= Dataset.HISTORY_EVENTS) {
      user.history.remove(0);
    }
    user.history.add(text(event.raw));
    user.pageviews++;
    user.lastEvent = event.eventId;
    user.lastSequence = event.sequence;
    state.update(user);
    return this;
  }

  private UserCheckpoint create(Event event) {
    ProfileClient.User fetched = fetch(event.userId);
    UserCheckpoint created = new UserCheckpoint();
    created.profile = text(fetched.profile());
    created.visit = text(fetched.visit().rest());
    created.pageviews = fetched.visit().pageviews();
    created.history = new ArrayList<>(Dataset.HISTORY_EVENTS + 1);
    for (byte[] past : fetched.history()) {
      created.history.add(text(past));
    }
    created.lastSequence = event.sequence - 1;
    return created;
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  @Override
  public byte[] profile() {
    return bytes(user.profile);
  }

  @Override
  public byte[] visit() {
    return ProfileClient.Visit.json(bytes(user.visit), user.pageviews, user.lastEvent);
  }

  @Override
  public int history(byte[][] out) {
    int count = 0;
    for (String event : user.history) {
      out[count++] = bytes(event);
    }
    return count;
  }
}
