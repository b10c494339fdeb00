package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/** The fields that the pipeline uses, and the JSON text as it came, which the history keeps. */
public final class Event {
  static final JsonFactory JSON = new JsonFactory();

  String userId;
  long eventId;
  int sequence;
  boolean triggerable;
  int partition;
  /** Of the Kafka record, ms. */
  long timestamp;
  byte[] raw;

  static Event parse(byte[] raw) throws IOException {
    Event event = new Event();
    event.raw = raw;
    try (JsonParser parser = JSON.createParser(raw)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new IOException("an event is not an object");
      }
      for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
        JsonToken token = parser.nextToken();
        switch (name) {
          case "user_id" -> event.userId = parser.getText();
          case "event_id" -> event.eventId = parser.getLongValue();
          case "seq" -> event.sequence = parser.getIntValue();
          case "triggerable" -> event.triggerable = token == JsonToken.VALUE_TRUE;
          default -> parser.skipChildren();
        }
      }
    }
    if (event.userId == null) {
      throw new IOException("an event has no user_id");
    }
    return event;
  }
}
