import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.googlecode.aviator.AviatorEvaluator;
import com.googlecode.aviator.AviatorEvaluatorInstance;
import com.googlecode.aviator.EvalMode;
import com.googlecode.aviator.Options;
import com.googlecode.aviator.runtime.type.AviatorFunction;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Array;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;

/**
 * Evaluates one case per line of standard input, {"expr": text, "env": object}, with the real
 * AviatorScript and
 * writes one line per case: {"type": t, "value": v} or {"error": class of the exception}.
 *
 * <p>Two options differ from Aviator's defaults, as the job's filter documents: a property that is
 * not there is nil,
 * and loops end (a case that loops forever is an error instead of a hang).
 */
public final class AviatorCorpus {
  private static final int MAX_LOOPS = 200_000;
  private static final Gson GSON =
      new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  public static void main(final String[] args) throws Exception {
    final BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    // Scripts may print; the answers keep a stream of their own.
    final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      out.println(GSON.toJson(answer(JsonParser.parseString(line).getAsJsonObject())));
    }
  }

  private static AviatorEvaluatorInstance engine() {
    final AviatorEvaluatorInstance engine = AviatorEvaluator.newInstance(EvalMode.ASM);
    engine.setOption(Options.NIL_WHEN_PROPERTY_NOT_FOUND, true);
    engine.setOption(Options.MAX_LOOP_COUNT, MAX_LOOPS);
    return engine;
  }

  private static JsonObject answer(final JsonObject testCase) {
    final JsonObject result = new JsonObject();
    try {
      final Map<String, Object> env = new LinkedHashMap<>();
      for (Map.Entry<String, JsonElement> entry : testCase.getAsJsonObject("env").entrySet()) {
        env.put(entry.getKey(), toJava(entry.getValue()));
      }
      // A new engine per case: nothing one script defines is seen by the next.
      describe(engine().compile(testCase.get("expr").getAsString()).execute(env), result);
    } catch (Throwable thrown) {
      result.addProperty("error", thrown.getClass().getSimpleName());
    }
    return result;
  }

  /** Whole numbers become Long, others Double, as the filter's contract says for event JSON. */
  private static Object toJava(final JsonElement json) {
    if (json.isJsonNull()) return null;
    if (json.isJsonArray()) {
      final List<Object> list = new ArrayList<>();
      for (JsonElement item : json.getAsJsonArray()) list.add(toJava(item));
      return list;
    }
    if (json.isJsonObject()) {
      final Map<String, Object> map = new LinkedHashMap<>();
      for (Map.Entry<String, JsonElement> e : json.getAsJsonObject().entrySet()) {
        map.put(e.getKey(), toJava(e.getValue()));
      }
      return map;
    }
    final JsonPrimitive primitive = json.getAsJsonPrimitive();
    if (primitive.isBoolean()) return primitive.getAsBoolean();
    if (primitive.isString()) return primitive.getAsString();
    final double number = primitive.getAsDouble();
    if (number == Math.rint(number) && !Double.isInfinite(number)) return (long) number;
    return number;
  }

  private static void describe(final Object value, final JsonObject into) {
    final JsonElement encoded = encode(value);
    into.addProperty("type", typeOf(value));
    into.add("value", encoded);
  }

  private static String typeOf(final Object value) {
    if (value == null) return "nil";
    if (value instanceof Boolean) return "boolean";
    if (value instanceof Long || value instanceof Integer) return "long";
    if (value instanceof Double || value instanceof Float) return "double";
    if (value instanceof CharSequence || value instanceof Character) return "string";
    if (value instanceof Pattern) return "pattern";
    if (value instanceof Set) return "set";
    if (value instanceof Map) return "map";
    if (value instanceof Map.Entry) return "entry";
    if (value instanceof Collection || value.getClass().isArray()) return "list";
    if (value instanceof AviatorFunction) return "function";
    return "other:" + value.getClass().getSimpleName();
  }

  /** Doubles travel as text inside lists, so that 2 and 2.0 stay apart. */
  private static JsonElement encode(final Object value) {
    switch (typeOf(value)) {
      case "nil":
        return com.google.gson.JsonNull.INSTANCE;
      case "boolean":
        return new JsonPrimitive((Boolean) value);
      case "long":
        return new JsonPrimitive(((Number) value).longValue() + "L");
      case "double":
        return new JsonPrimitive(String.valueOf(((Number) value).doubleValue()) + "D");
      case "string":
        return new JsonPrimitive("'" + value);
      case "set":
        return encodeSet((Set<?>) value);
      case "list":
        return encodeList(value);
      case "map":
        return encodeMap((Map<?, ?>) value);
      case "entry":
        final Map.Entry<?, ?> entry = (Map.Entry<?, ?>) value;
        return encodeList(new Object[] {entry.getKey(), entry.getValue()});
      default:
        return new JsonPrimitive(typeOf(value));
    }
  }

  /** Java's hash order is no promise of Aviator: sets are written sorted by their encoded text. */
  private static JsonElement encodeSet(final Set<?> set) {
    final TreeMap<String, JsonElement> sorted = new TreeMap<>();
    for (Object item : set) sorted.put(GSON.toJson(encode(item)), encode(item));
    final JsonArray array = new JsonArray();
    for (JsonElement item : sorted.values()) array.add(item);
    return array;
  }

  private static JsonElement encodeList(final Object value) {
    final JsonArray array = new JsonArray();
    if (value instanceof Collection) {
      for (Object item : (Collection<?>) value) array.add(encode(item));
    } else {
      for (int i = 0; i < Array.getLength(value); i++) array.add(encode(Array.get(value, i)));
    }
    return array;
  }

  private static JsonElement encodeMap(final Map<?, ?> map) {
    final TreeMap<String, JsonElement> sorted = new TreeMap<>();
    for (Map.Entry<?, ?> e : map.entrySet()) {
      sorted.put(encode(e.getKey()).toString(), encode(e.getValue()));
    }
    final JsonObject object = new JsonObject();
    for (Map.Entry<String, JsonElement> e : sorted.entrySet()) object.add(e.getKey(), e.getValue());
    return object;
  }
}
