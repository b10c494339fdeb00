package bench;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.StringValue;

/** Across the keyBy the event is the fields found so far and its text, not parsed again. */
public final class EventSerializer extends TypeSerializerSingleton<Event> {
  @Override
  public void serialize(Event event, DataOutputView out) throws IOException {
    StringValue.writeString(event.userId, out);
    out.writeLong(event.eventId);
    out.writeInt(event.sequence);
    out.writeBoolean(event.triggerable);
    out.writeShort(event.partition);
    out.writeLong(event.timestamp);
    out.writeInt(event.raw.length);
    out.write(event.raw);
  }

  @Override
  public Event deserialize(DataInputView in) throws IOException {
    Event event = new Event();
    event.userId = StringValue.readString(in);
    event.eventId = in.readLong();
    event.sequence = in.readInt();
    event.triggerable = in.readBoolean();
    event.partition = in.readShort();
    event.timestamp = in.readLong();
    event.raw = new byte[in.readInt()];
    in.readFully(event.raw);
    return event;
  }

  @Override
  public Event deserialize(Event reuse, DataInputView in) throws IOException {
    return deserialize(in);
  }

  @Override
  public void copy(DataInputView in, DataOutputView out) throws IOException {
    serialize(deserialize(in), out);
  }

  @Override
  public boolean isImmutableType() {
    return true;
  }

  @Override
  public Event createInstance() {
    return new Event();
  }

  @Override
  public Event copy(Event event) {
    return event;
  }

  @Override
  public Event copy(Event event, Event reuse) {
    return event;
  }

  @Override
  public int getLength() {
    return -1;
  }

  @Override
  public TypeSerializerSnapshot<Event> snapshotConfiguration() {
    return new Snapshot();
  }

  /** Flink makes it by its name. */
  public static final class Snapshot extends SimpleTypeSerializerSnapshot<Event> {
    public Snapshot() {
      super(EventSerializer::new);
    }
  }
}
