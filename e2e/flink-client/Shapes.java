import java.io.File;
import java.lang.annotation.Annotation;
import java.lang.reflect.AnnotatedElement;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.SerializationFeature;

/**
 * Prints what a released Flink says of its own REST API, as JSON Schemas: method, path, status and
 * the fields of every answer, read from the classes that Flink makes its answers of. Argument: the
 * flink-runtime jar, which must be on the class path with its dependencies.
 */
public class Shapes {
  static final String MESSAGES = "org/apache/flink/runtime/rest/messages/";
  static final Map<String, Object> SCHEMAS = new TreeMap<>();
  static final Map<String, Object> HEX_ID = map("type", "string", "pattern", "^[0-9a-f]{32}$");
  static final List<String> IDS = List.of("JobID", "JobVertexID", "SlotSharingGroupId", "TriggerId");
  /** Batch, submission of jars, profiler, and what later clients replaced. */
  static final String NOT_SERVED =
      "DELETE .*|POST /jobs|.*/(datasets|profiler|coordinators|clientHeartbeat|log-url|yarn-stop).*"
          + "|.*/:jobid/jobmanager/.*|.*/attempts/:attempt/accumulators";
  /** Written by hand in Flink, so in no annotation. */
  static final Map<String, Object> BY_HAND = map(
      "MetricCollectionResponseBody", array(object(map("id", text(), "value", text()), "id")),
      "AggregatedMetricsResponseBody", array(object(map("id", text(), "min", number(),
          "max", number(), "avg", number(), "sum", number(), "skew", number()), "id")),
      "ConfigurationInfo", array(object(map("key", text(), "value", text()), "key", "value")),
      "JobConfigInfo", object(map("jid", HEX_ID, "name", text(),
          "execution-config", ref("JobConfigInfo.ExecutionConfigInfo")), "jid", "name"),
      "JobResourceRequirementsBody", map("type", "object", "additionalProperties",
          object(map("parallelism", object(map("lowerBound", integer(), "upperBound", integer()),
              "lowerBound", "upperBound")), "parallelism")),
      "JobResult", object(map("id", HEX_ID, "application-status", text(),
          "accumulator-results", map("type", "object"), "net-runtime", integer()),
          "id", "application-status", "accumulator-results", "net-runtime"));
  /** What Flink itself leaves null although no annotation tells. */
  static final List<String> NULL_TOO = List.of("root-exception", "timestamp", "savepointFormat",
      "completed", "savepoint", "failed", "restored", "external_path", "failure_message",
      "taskName", "location", "endpoint", "taskManagerId", "other-concurrent-attempts", "data");

  public static void main(String[] args) throws Exception {
    Map<String, Object> endpoints = new TreeMap<>();
    try (JarFile jar = new JarFile(new File(args[0]))) {
      for (JarEntry entry : Collections.list(jar.entries())) {
        Object headers = headersIn(entry.getName());
        if (headers != null) add(endpoints, headers);
      }
    }
    schemaOf(Class.forName("org.apache.flink.runtime.rest.messages.JobConfigInfo$ExecutionConfigInfo"));
    ObjectMapper mapper = new ObjectMapper().enable(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS);
    System.out.println(mapper.writerWithDefaultPrettyPrinter().writeValueAsString(
        map("endpoints", endpoints, "schemas", SCHEMAS)));
  }

  /** One of Flink's questions; null = that class is none. */
  static Object headersIn(String name) throws Exception {
    if (!name.startsWith(MESSAGES) || !name.endsWith("Headers.class")) return null;
    Class<?> type = Class.forName(name.replace('/', '.').replace(".class", ""));
    if (Modifier.isAbstract(type.getModifiers()) || type.isInterface()) return null;
    Constructor<?> made = type.getDeclaredConstructor();
    made.setAccessible(true);
    return made.newInstance();
  }

  static void add(Map<String, Object> endpoints, Object headers) throws Exception {
    Class<?> type = headers.getClass();
    String endpoint = call(headers, "getHttpMethod") + " " + call(headers, "getTargetRestEndpointURL");
    if (endpoint.matches(NOT_SERVED)) return;
    Map<String, Object> answer = new TreeMap<>();
    if (has(type, "getResponseClass")) {
      Class<?> body = (Class<?>) call(headers, "getResponseClass");
      answer.put("schema", schemaOf(body));
      answer.put("status", Integer.valueOf(call(headers, "getResponseStatusCode").toString().split(" ")[0]));
    }
    endpoints.put(endpoint, answer);
  }

  static Object schemaOf(Type type) throws Exception {
    if (type instanceof ParameterizedType) {
      ParameterizedType generic = (ParameterizedType) type;
      Type[] of = generic.getActualTypeArguments();
      Class<?> raw = (Class<?>) generic.getRawType();
      if (Collection.class.isAssignableFrom(raw)) return array(schemaOf(of[0]));
      if (Map.class.isAssignableFrom(raw)) {
        Map<String, Object> schema = map("type", "object", "additionalProperties", schemaOf(of[1]));
        boolean named = of[0] instanceof Class && ((Class<?>) of[0]).isEnum();
        if (named) schema.put("propertyNames", map("enum", namesOf((Class<?>) of[0])));
        return schema;
      }
      return map();
    }
    if (!(type instanceof Class)) return map();
    Class<?> c = (Class<?>) type;
    if (c == int.class || c == long.class || c == Integer.class || c == Long.class) return integer();
    if (c == double.class || c == Double.class) return number();
    if (c == boolean.class || c == Boolean.class) return map("type", "boolean");
    if (c == String.class || c.getSimpleName().equals("ResourceID")) return text();
    if (IDS.contains(c.getSimpleName())) return HEX_ID;
    if (c.isEnum()) return map("type", "string", "enum", namesOf(c));
    if (c.getSimpleName().equals("RawJson")) return map("type", "object");
    // Nested ones by their outer class: two are called Summary.
    String name = c.getName().replaceAll(".*\\.", "").replace('$', '.');
    if (!SCHEMAS.containsKey(name)) {
      SCHEMAS.put(name, map());
      SCHEMAS.put(name, BY_HAND.containsKey(name) ? BY_HAND.get(name) : structure(c));
    }
    return ref(name);
  }

  /** An answer of several kinds names its own in `className`. */
  static Object structure(Class<?> c) throws Exception {
    Annotation subTypes = annotation(c, "JsonSubTypes");
    if (subTypes == null || Arrays.stream(c.getDeclaredClasses()).noneMatch(c::isAssignableFrom)) {
      return fields(c);
    }
    List<Object> kinds = new ArrayList<>();
    for (Object kind : (Object[]) call(subTypes, "value")) {
      Map<String, Object> schema = fields((Class<?>) call(kind, "value"));
      @SuppressWarnings("unchecked")
      Map<String, Object> properties = (Map<String, Object>) schema.get("properties");
      properties.put("className", map("const", call(kind, "name")));
      kinds.add(schema);
    }
    return map("oneOf", kinds);
  }

  static Map<String, Object> fields(Class<?> c) throws Exception {
    Map<String, Object> properties = new TreeMap<>();
    List<String> required = new ArrayList<>();
    boolean sparse = annotation(c, "JsonInclude") != null;
    for (Class<?> at = c; at != null && at != Object.class; at = at.getSuperclass()) {
      for (Field field : at.getDeclaredFields()) {
        Annotation property = annotation(field, "JsonProperty");
        if (property == null) continue;
        put(properties, required, (String) call(property, "value"), field.getGenericType(),
            annotation(field, "Nullable") != null, sparse);
      }
    }
    if (properties.isEmpty()) {
      for (Constructor<?> constructor : c.getDeclaredConstructors()) {
        if (annotation(constructor, "JsonCreator") == null) continue;
        Type[] types = constructor.getGenericParameterTypes();
        for (int i = 0; i < types.length; i++) {
          for (Annotation own : constructor.getParameterAnnotations()[i]) {
            if (!own.annotationType().getSimpleName().equals("JsonProperty")) continue;
            put(properties, required, (String) call(own, "value"), types[i], false, sparse);
          }
        }
      }
    }
    Collections.sort(required);
    return map("type", "object", "properties", properties, "required", required);
  }

  static void put(Map<String, Object> properties, List<String> required, String name, Type type,
      boolean nullable, boolean sparse) throws Exception {
    Object schema = schemaOf(type);
    boolean primitive = type instanceof Class && ((Class<?>) type).isPrimitive();
    boolean maybe = !primitive && (nullable || NULL_TOO.contains(name));
    properties.put(name, maybe ? map("anyOf", List.of(schema, map("type", "null"))) : schema);
    if (!sparse || primitive) required.add(name);
  }

  /** As Flink writes them: some have a serializer that writes small letters. */
  static List<String> namesOf(Class<?> type) {
    List<String> names = new ArrayList<>();
    boolean small = annotation(type, "JsonSerialize") != null;
    for (Object one : type.getEnumConstants()) {
      String name = small ? ((Enum<?>) one).name().toLowerCase() : one.toString();
      names.add(name);
    }
    return names;
  }

  static Annotation annotation(AnnotatedElement element, String name) {
    for (Annotation one : element.getAnnotations()) {
      if (one.annotationType().getSimpleName().equals(name)) return one;
    }
    return null;
  }

  static boolean has(Class<?> type, String method) {
    return Arrays.stream(type.getMethods()).anyMatch(one -> one.getName().equals(method));
  }

  static Object call(Object target, String method) throws Exception {
    Class<?> type = target instanceof Annotation
        ? ((Annotation) target).annotationType() : target.getClass();
    Method found = type.getMethod(method);
    found.setAccessible(true);
    return found.invoke(target);
  }

  static Map<String, Object> object(Map<String, Object> properties, String... required) {
    return map("type", "object", "properties", properties, "required", List.of(required));
  }

  static Map<String, Object> array(Object items) { return map("type", "array", "items", items); }
  static Map<String, Object> text() { return map("type", "string"); }
  static Map<String, Object> number() { return map("type", "number"); }
  static Map<String, Object> integer() { return map("type", "integer"); }
  static Map<String, Object> ref(String name) { return map("$ref", "#/components/schemas/" + name); }

  static Map<String, Object> map(Object... pairs) {
    Map<String, Object> made = new TreeMap<>();
    for (int i = 0; i < pairs.length; i += 2) made.put((String) pairs[i], pairs[i + 1]);
    return made;
  }
}
