package bench;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;

/** The job's {@code --name value} arguments; operators carry them to the TaskManager. */
final class Args implements Serializable {
  private final Map<String, String> values = new HashMap<>();

  Args(String[] args) {
    for (int i = 0; i + 1 < args.length; i += 2) {
      values.put(args[i].replaceFirst("^--", ""), args[i + 1]);
    }
  }

  String text(String name) {
    String value = values.get(name);
    if (value == null) {
      throw new IllegalArgumentException("--" + name + " is missing");
    }
    return value;
  }

  int number(String name) {
    return Integer.parseInt(text(name));
  }

  boolean is(String name, String value) {
    return text(name).equals(value);
  }
}
