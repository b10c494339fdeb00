package bench;

import org.apache.flink.client.deployment.application.ApplicationClusterEntryPoint;
import org.apache.flink.client.program.PackagedProgram;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.runtime.entrypoint.ClusterEntrypoint;
import org.apache.flink.runtime.resourcemanager.StandaloneResourceManagerFactory;

/**
 * A JobManager that runs {@link Job} as soon as it is up (application mode), so that a start-up is
 * not charged with a client process. The distribution's own entry point is not on Maven Central.
 * Arguments: the configuration folder, then the job's.
 */
public final class JobManager extends ApplicationClusterEntryPoint {
  private JobManager(Configuration configuration, PackagedProgram program) {
    super(configuration, program, StandaloneResourceManagerFactory.getInstance());
  }

  public static void main(String[] arguments) throws Exception {
    Configuration configuration = GlobalConfiguration.loadConfiguration(arguments[0]);
    String[] ofJob = java.util.Arrays.copyOfRange(arguments, 1, arguments.length);
    PackagedProgram program =
        PackagedProgram.newBuilder()
            .setEntryPointClassName(Job.class.getName())
            .setArguments(ofJob)
            .setConfiguration(configuration)
            .build();
    configureExecution(configuration, program);
    ClusterEntrypoint.runClusterEntrypoint(new JobManager(configuration, program));
  }
}
