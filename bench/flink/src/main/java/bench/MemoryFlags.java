package bench;

import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.runtime.clusterframework.TaskExecutorProcessSpec;
import org.apache.flink.runtime.clusterframework.TaskExecutorProcessUtils;
import org.apache.flink.runtime.util.config.memory.ProcessMemoryUtils;

/**
 * What the distribution's start scripts compute from a configuration folder: the TaskManager's JVM
 * flags on one line, its dynamic options on the next.
 */
public final class MemoryFlags {
  private MemoryFlags() {}

  public static void main(String[] arguments) {
    Configuration configuration = GlobalConfiguration.loadConfiguration(arguments[0]);
    TaskExecutorProcessSpec spec = TaskExecutorProcessUtils.processSpecFromConfig(configuration);
    System.out.println(ProcessMemoryUtils.generateJvmParametersStr(spec));
    System.out.println(TaskExecutorProcessUtils.generateDynamicConfigsStr(spec));
  }
}
