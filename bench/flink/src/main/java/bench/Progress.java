package bench;

import java.io.FileWriter;
import java.io.IOException;
import java.util.Arrays;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * How far the subtasks of this TaskManager are, for the harness: a daemon thread appends a line to
 * a file every 20 ms in which something moved, numbers with spaces between:
 *
 * <pre>ms processed misses anomalies counted fired firedSum timestamp0 .. timestamp3</pre>
 *
 * processed, misses and anomalies count since the process began; counted and fired are checkpointed
 * state, so after a recovery they must end at what is expected. An anomaly is an event whose
 * sequence is not that of its user's last event plus one. timestampN is that of the newest record
 * of partition N which this process has handled, -1: none.
 */
final class Progress {
  private static final int PARTITIONS = 4;
  private static final long EVERY_MS = 20;
  private static final ConcurrentHashMap<Integer, Progress> SUBTASKS = new ConcurrentHashMap<>();
  private static Thread writer;

  final AtomicLong processed = new AtomicLong();
  final AtomicLong misses = new AtomicLong();
  final AtomicLong anomalies = new AtomicLong();
  final AtomicLong counted = new AtomicLong();
  final AtomicLong fired = new AtomicLong();
  final AtomicLong firedSum = new AtomicLong();
  final AtomicLongArray timestamps = new AtomicLongArray(PARTITIONS);

  private Progress() {
    for (int i = 0; i < PARTITIONS; i++) {
      timestamps.set(i, -1);
    }
  }

  static Progress of(int subtask) {
    return SUBTASKS.computeIfAbsent(subtask, number -> new Progress());
  }

  /** The file is named after the process, so that one that is started again has its own. */
  static synchronized void writeTo(String folder) {
    if (writer != null) {
      return;
    }
    String file = folder + "/" + ProcessHandle.current().pid() + ".progress";
    writer = new Thread(() -> write(file), "progress");
    writer.setDaemon(true);
    writer.start();
  }

  private static void write(String file) {
    try (FileWriter out = new FileWriter(file)) {
      for (String last = ""; ; Thread.sleep(EVERY_MS)) {
        String line = line();
        if (!line.equals(last)) {
          out.write(System.currentTimeMillis() + " " + line + "\n");
          out.flush();
          last = line;
        }
      }
    } catch (IOException fault) {
      throw new java.io.UncheckedIOException(fault);
    } catch (InterruptedException end) {
      Thread.currentThread().interrupt();
    }
  }

  private static String line() {
    long[] sums = new long[6];
    long[] newest = new long[PARTITIONS];
    Arrays.fill(newest, -1);
    for (Progress subtask : SUBTASKS.values()) {
      sums[0] += subtask.processed.get();
      sums[1] += subtask.misses.get();
      sums[2] += subtask.anomalies.get();
      sums[3] += subtask.counted.get();
      sums[4] += subtask.fired.get();
      sums[5] += subtask.firedSum.get();
      for (int i = 0; i < PARTITIONS; i++) {
        newest[i] = Math.max(newest[i], subtask.timestamps.get(i));
      }
    }
    StringBuilder line = new StringBuilder();
    for (long sum : sums) {
      line.append(sum).append(' ');
    }
    for (long timestamp : newest) {
      line.append(timestamp).append(' ');
    }
    return line.toString().trim();
  }
}
