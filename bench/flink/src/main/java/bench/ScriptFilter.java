package bench;

import com.googlecode.aviator.AviatorEvaluator;
import com.googlecode.aviator.Expression;
import java.util.AbstractList;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFilterFunction;

/** The AviatorScript filter, compiled once per subtask; what it does not name is never read. */
final class ScriptFilter extends RichFilterFunction<EnrichedEvent> {
  private final String script;
  private transient Expression expression;
  private transient Map<String, Object> scope;
  private transient EnrichedEvent current;

  ScriptFilter(String script) {
    this.script = script;
  }

  @Override
  public void open(OpenContext context) {
    expression = AviatorEvaluator.compile(script, true);
    scope = new HashMap<>();
    scope.put("event", new EventFields());
    scope.put(
        "user",
        new LazyJson() {
          @Override
          byte[] bytes() throws Exception {
            return current.profile();
          }
        });
    scope.put(
        "visit",
        new LazyJson() {
          @Override
          byte[] bytes() throws Exception {
            return current.visit();
          }
        });
    scope.put("history", new History());
  }

  @Override
  public boolean filter(EnrichedEvent event) {
    current = event;
    return Boolean.TRUE.equals(expression.execute(scope));
  }

  /** What the source has parsed anyway is not parsed again. */
  private final class EventFields extends LazyJson {
    @Override
    byte[] bytes() {
      return current.event.raw;
    }

    @Override
    public Object get(Object key) {
      return switch ((String) key) {
        case "triggerable" -> current.event.triggerable;
        case "user_id" -> current.event.userId;
        case "event_id" -> current.event.eventId;
        default -> super.get(key);
      };
    }
  }

  private final class History extends AbstractList<Map<String, Object>> {
    @Override
    public int size() {
      try {
        return current.historyCount();
      } catch (Exception fault) {
        throw new IllegalStateException("history", fault);
      }
    }

    @Override
    public Map<String, Object> get(int index) {
      return new LazyJson() {
        @Override
        byte[] bytes() {
          return current.history(index);
        }
      };
    }
  }
}
