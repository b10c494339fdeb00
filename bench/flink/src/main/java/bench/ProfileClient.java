package bench;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What a missing user starts with. {@code --profiles synthetic} makes it in the process, else it is
 * the base URL of the Profile API: three requests at once, and the subtask waits for them, as a
 * keyed function of Flink has to.
 */
final class ProfileClient {
  /** JSON texts; the history oldest first. */
  record User(byte[] profile, Visit visit, List<byte[]> history) {}

  /** A visit: the counters that change, and the text of all else without its closing brace. */
  record Visit(byte[] rest, long pageviews) {
    private static final Pattern COUNTERS =
        Pattern.compile("\"pageviews\":(\\d+),\"last_event\":\\d+,");

    static Visit of(byte[] json) {
      String text = new String(json, StandardCharsets.ISO_8859_1);
      Matcher found = COUNTERS.matcher(text);
      if (!found.find()) {
        throw new IllegalArgumentException("a visit without its counters: " + text);
      }
      String rest = text.substring(0, found.start()) + text.substring(found.end());
      byte[] open = rest.substring(0, rest.length() - 1).getBytes(StandardCharsets.ISO_8859_1);
      return new Visit(open, Long.parseLong(found.group(1)));
    }

    static byte[] json(byte[] rest, long pageviews, long lastEvent) {
      Ascii out = new Ascii(rest.length + 64).raw(rest).text(",\"pageviews\":").number(pageviews);
      return out.text(",\"last_event\":").number(lastEvent).text("}").copy();
    }
  }

  private static final Duration TIMEOUT = Duration.ofSeconds(30);

  private static HttpClient http;

  private final String baseUrl;
  private final int heavyEvery;
  private final int heavyPadding;

  ProfileClient(Args args) {
    baseUrl = args.is("profiles", "synthetic") ? null : args.text("profiles");
    heavyEvery = args.number("heavy-every");
    heavyPadding = args.number("heavy-padding");
  }

  /** One for the whole TaskManager. */
  static synchronized HttpClient http() {
    if (http == null) {
      http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    }
    return http;
  }

  User fetch(String userId) {
    if (baseUrl == null) {
      int user = Dataset.userNumber(userId);
      int padding = heavyEvery > 0 && user % heavyEvery == 0 ? heavyPadding : 0;
      Visit visit = Visit.of(Dataset.visit(user));
      return new User(Dataset.profile(user), visit, Dataset.history(user, padding));
    }
    CompletableFuture<byte[]> profile = get(userId, "profile");
    CompletableFuture<byte[]> visit = get(userId, "visit");
    CompletableFuture<byte[]> history = get(userId, "history");
    return new User(profile.join(), Visit.of(visit.join()), objects(history.join()));
  }

  private CompletableFuture<byte[]> get(String userId, String part) {
    URI uri = URI.create(baseUrl + "/users/" + userId + "/" + part);
    HttpRequest request = HttpRequest.newBuilder(uri).timeout(TIMEOUT).build();
    return http()
        .sendAsync(request, HttpResponse.BodyHandlers.ofByteArray())
        .thenApply(
            answer -> {
              if (answer.statusCode() != 200) {
                throw new IllegalStateException("Profile API: " + answer.statusCode());
              }
              return answer.body();
            });
  }

  /** The texts of the objects in a JSON array. */
  private static List<byte[]> objects(byte[] array) {
    List<byte[]> texts = new ArrayList<>(Dataset.HISTORY_EVENTS);
    int depth = 0;
    int start = 0;
    boolean inString = false;
    for (int i = 0; i < array.length; i++) {
      byte character = array[i];
      if (inString) {
        if (character == '\\') {
          i++;
        } else if (character == '"') {
          inString = false;
        }
      } else if (character == '"') {
        inString = true;
      } else if (character == '{') {
        if (depth++ == 0) {
          start = i;
        }
      } else if (character == '}') {
        if (--depth == 0) {
          texts.add(Arrays.copyOfRange(array, start, i + 1));
        }
      }
    }
    return texts;
  }
}
