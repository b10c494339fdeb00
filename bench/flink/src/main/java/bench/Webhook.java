package bench;

import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.List;
import org.apache.flink.streaming.api.functions.async.ResultFuture;
import org.apache.flink.streaming.api.functions.async.RichAsyncFunction;

/** Posts each body; anything but 2xx fails the job, since the bench's receiver never refuses. */
final class Webhook extends RichAsyncFunction<byte[], Integer> {
  private static final Duration TIMEOUT = Duration.ofSeconds(10);
  private final String url;

  Webhook(String url) {
    this.url = url;
  }

  @Override
  public void asyncInvoke(byte[] body, ResultFuture<Integer> result) {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(url))
            .timeout(TIMEOUT)
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
    ProfileClient.http()
        .sendAsync(request, HttpResponse.BodyHandlers.discarding())
        .whenComplete(
            (answer, fault) -> {
              if (fault != null) {
                result.completeExceptionally(fault);
              } else if (answer.statusCode() >= 300) {
                result.completeExceptionally(new IllegalStateException("" + answer.statusCode()));
              } else {
                result.complete(List.of(answer.statusCode()));
              }
            });
  }
}
