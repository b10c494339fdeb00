package bench;

import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/**
 * The users of bench/dataset.ts, byte for byte: both engines make the profile of a missing user in
 * their own process, unless a setting asks for the HTTP Profile API. {@link #main} prints hashes,
 * which the harness compares with its own before it measures anything.
 */
final class Dataset {
  static final int HISTORY_EVENTS = 100;

  private static final String[] EVENT_TYPES = {
    "page_view", "click", "add_cart", "purchase", "search"
  };
  private static final String[] LANGUAGES = {"en", "de", "fr", "ja", "pt", "es", "hi", "zh"};
  private static final String[] COUNTRIES = {"DE", "FR", "JP", "BR", "IN", "GB", "CA", "MX"};
  private static final String[] DEVICES = {"ios", "android", "desktop", "tablet"};

  private Dataset() {}

  /** Prints a line of three hashes (profile, visit, history) for each user number. */
  public static void main(String[] users) throws Exception {
    for (String text : users) {
      int user = Integer.parseInt(text);
      Ascii history = new Ascii(16_384).text("[");
      for (byte[] event : history(user, 0)) {
        history.text(history.length() > 1 ? "," : "").raw(event);
      }
      String profile = hash(profile(user));
      System.out.println(profile + " " + hash(visit(user)) + " " + hash(history.text("]").copy()));
    }
  }

  private static String hash(byte[] bytes) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
  }

  static int mix(int a, int b) {
    int h = a ^ (b * 0x9E3779B1);
    h = (h ^ (h >>> 16)) * 0x85EBCA6B;
    h = (h ^ (h >>> 13)) * 0xC2B2AE35;
    return h ^ (h >>> 16);
  }

  private static int modulo(int hash, int divisor) {
    return Integer.remainderUnsigned(hash, divisor);
  }

  private static String pick(String[] values, int hash) {
    return values[modulo(hash, values.length)];
  }

  /** "u0000000042" is 42. */
  static int userNumber(String userId) {
    return Integer.parseInt(userId, 1, userId.length(), 10);
  }

  private static Ascii userId(Ascii out, int user) {
    return out.text("u").padded(user, 10);
  }

  static byte[] profile(int user) {
    String country = modulo(mix(user, 1), 5) == 0 ? "US" : pick(COUNTRIES, mix(user, 7));
    Ascii out = userId(new Ascii(2_304).text("{\"user_id\":\""), user);
    out.text("\",\"name\":\"User ").number(user).text("\",\"country\":\"").text(country);
    out.text("\",\"city\":\"City ").number(modulo(mix(user, 2), 500));
    out.text("\",\"age\":").number(18 + modulo(mix(user, 3), 60));
    out.text(",\"lang\":\"").text(pick(LANGUAGES, mix(user, 4)));
    out.text("\",\"segment\":\"s").number(modulo(mix(user, 5), 20));
    out.text("\",\"created\":").number(1_500_000_000L + modulo(mix(user, 6), 200_000_000));
    out.text(",\"tags\":[");
    for (int i = 0; i < 10; i++) {
      out.text(i > 0 ? ",\"" : "\"").hex8(mix(user, 100 + i)).text("\"");
    }
    out.text("],\"attrs\":{");
    for (int i = 0; i < 38; i++) {
      out.text(i > 0 ? ",\"k" : "\"k").padded(i, 2).text("\":\"");
      for (int j = 0; j < 4; j++) {
        out.hex8(mix(user, 200 + i * 4 + j));
      }
      out.text("\"");
    }
    return out.text("}}").copy();
  }

  static byte[] visit(int user) {
    Ascii out = userId(new Ascii(1_152).text("{\"user_id\":\""), user);
    out.text("\",\"visit_id\":\"").hex8(mix(user, 22)).hex8(mix(user, 23));
    out.text("\",\"pageviews\":").number(modulo(mix(user, 21), 50)).text(",\"last_event\":0");
    out.text(",\"started\":").number(1_699_990_000_000L + modulo(mix(user, 24), 10_000_000));
    out.text(",\"device\":\"").text(pick(DEVICES, mix(user, 25)));
    out.text("\",\"ref\":\"https://ref.example/").hex8(mix(user, 26)).text("\",\"pages\":[");
    for (int i = 0; i < 38; i++) {
      out.text(i > 0 ? ",\"/p/" : "\"/p/");
      out.hex8(mix(user, 400 + i * 2)).hex8(mix(user, 401 + i * 2)).text("\"");
    }
    return out.text("]}").copy();
  }

  /** Oldest first; `padding` bytes are added to each event: of a user of 16 MB. */
  static List<byte[]> history(int user, int padding) {
    List<byte[]> events = new ArrayList<>(HISTORY_EVENTS);
    Ascii out = new Ascii(192 + padding);
    for (int i = 0; i < HISTORY_EVENTS; i++) {
      int id = i - HISTORY_EVENTS;
      userId(out.clear().text("{\"event_id\":").number(id).text(",\"user_id\":\""), user);
      out.text("\",\"seq\":").number(id).text(",\"type\":\"");
      out.text(pick(EVENT_TYPES, mix(user, 600 + i))).text("\",\"page\":\"/p/");
      out.hex8(mix(user, 700 + i)).fill('x', padding).text("\",\"ts\":");
      out.number(1_690_000_000_000L + i * 60_000L).text(",\"triggerable\":");
      out.text(modulo(mix(user, 800 + i), 5) == 0 ? "true}" : "false}");
      events.add(out.copy());
    }
    return events;
  }
}
