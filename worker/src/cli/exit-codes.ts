/** What `triggerjob` exits with; shown by `triggerjob --help`. */
export const EXIT = {
  ok: 0,
  /**
   * The command could not do what it was asked for: an invalid file, a failed job, no such thing.
   */
  failed: 1,
  /** Unknown command or option. */
  usage: 2,
  /** Another run uses the state directory. */
  stateDirInUse: 3,
  /** A role ended because the process that started it did. */
  orphaned: 4,
  /**
   * A JobManager that lost or released the leadership, or whose store does not answer: start it
   * again.
   */
  restart: 5,
  /** Ended at once by a second Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const;

export const EXIT_CODE_HELP = `Exit codes:
  0    done
  1    failed: the file is invalid, the job failed, or the thing asked for does not exist
  2    unknown command or option
  3    another run uses the state directory
  4    a jobmanager or taskmanager ended because the process that started it ended
  5    a jobmanager had to go, but its job can go on: start it again
  130  ended at once by a second Ctrl-C`;
