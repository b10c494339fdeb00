package bench;

/**
 * An event with its user, visit and history. The operators behind the state manager are chained to
 * it with object reuse, so a part is read from state when it is first asked for.
 */
public final class EnrichedEvent {
  /** The state of the event's user; valid until the next event. */
  interface UserView {
    byte[] profile() throws Exception;

    byte[] visit() throws Exception;

    /** Fills in JSON texts, oldest first; returns how many. */
    int history(byte[][] out) throws Exception;
  }

  Event event;
  private UserView view;
  private byte[] profile;
  private byte[] visit;
  private final byte[][] history = new byte[Dataset.HISTORY_EVENTS][];
  private int historyCount = -1;

  void set(Event next, UserView nextView) {
    event = next;
    view = nextView;
    profile = null;
    visit = null;
    historyCount = -1;
  }

  byte[] profile() throws Exception {
    if (profile == null) {
      profile = view.profile();
    }
    return profile;
  }

  byte[] visit() throws Exception {
    if (visit == null) {
      visit = view.visit();
    }
    return visit;
  }

  int historyCount() throws Exception {
    if (historyCount < 0) {
      historyCount = view.history(history);
    }
    return historyCount;
  }

  /** After {@link #historyCount}. */
  byte[] history(int index) {
    return history[index];
  }

  /** The body of a webhook: {"event":..,"user":..,"visit":..,"history":[..]}. */
  byte[] json() throws Exception {
    Ascii out = new Ascii(20_480).text("{\"event\":").raw(event.raw);
    out.text(",\"user\":").raw(profile()).text(",\"visit\":").raw(visit()).text(",\"history\":[");
    int count = historyCount();
    for (int i = 0; i < count; i++) {
      out.text(i > 0 ? "," : "").raw(history[i]);
    }
    return out.text("]}").copy();
  }
}
