package bench;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** From a Kafka record to an {@link Event}. */
final class EventSchema implements KafkaRecordDeserializationSchema<Event> {
  @Override
  public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Event> out)
      throws IOException {
    Event event = Event.parse(record.value());
    event.partition = record.partition();
    event.timestamp = record.timestamp();
    out.collect(event);
  }

  @Override
  public TypeInformation<Event> getProducedType() {
    return new EventTypeInfo();
  }
}
