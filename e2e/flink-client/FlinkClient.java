import java.io.File;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.apache.flink.api.common.JobID;
import org.apache.flink.client.program.rest.RestClusterClient;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.core.execution.CheckpointType;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.client.JobStatusMessage;
import org.apache.flink.runtime.rest.messages.EmptyMessageParameters;
import org.apache.flink.runtime.rest.messages.EmptyRequestBody;
import org.apache.flink.runtime.rest.messages.MessageHeaders;
import org.apache.flink.runtime.rest.messages.MessageParameters;
import org.apache.flink.runtime.rest.messages.MessagePathParameter;
import org.apache.flink.runtime.rest.messages.job.JobDetailsInfo;
import org.apache.flink.runtime.rest.messages.taskmanager.TaskManagersHeaders;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * Does with Flink's own client what a person with the Flink command line does, and reads each of
 * Flink's questions' answers into Flink's own classes. Prints one JSON object. Arguments: host,
 * port, a directory for savepoints, the flink-runtime jar.
 */
public class FlinkClient {
  static final Map<String, Object> SAID = new TreeMap<>();

  public static void main(String[] args) throws Exception {
    Configuration configuration = new Configuration();
    configuration.set(RestOptions.ADDRESS, args[0]);
    configuration.set(RestOptions.PORT, Integer.parseInt(args[1]));
    configuration.set(RestOptions.RETRY_MAX_ATTEMPTS, 2);
    try (RestClusterClient<String> client = new RestClusterClient<>(configuration, "triggerjob")) {
      JobStatusMessage listed = client.listJobs().get(30, TimeUnit.SECONDS).iterator().next();
      JobID job = listed.getJobId();
      SAID.put("listed", List.of(listed.getJobName(), listed.getJobState().toString()));
      SAID.put("status", client.getJobStatus(job).get().toString());
      JobDetailsInfo details = client.getJobDetails(job).get();
      List<String> vertices = new ArrayList<>();
      for (JobDetailsInfo.JobVertexDetailsInfo vertex : details.getJobVertexInfos()) {
        vertices.add(vertex.getName() + " " + vertex.getParallelism());
      }
      SAID.put("vertices", vertices);
      SAID.put("slots", client.getClusterOverview().get().getNumSlotsTotal());
      SAID.put("accumulators", client.getAccumulators(job).get().size());
      long checkpoint = client.triggerCheckpoint(job, CheckpointType.DEFAULT).get();
      SAID.put("checkpoint", checkpoint);
      String savepoint =
          client.triggerSavepoint(job, args[2], SavepointFormatType.NATIVE).get(60, TimeUnit.SECONDS);
      SAID.put("savepoint", savepoint);
      try {
        client.triggerSavepoint(job, "nothing://there", SavepointFormatType.NATIVE)
            .get(60, TimeUnit.SECONDS);
      } catch (ExecutionException refused) {
        SAID.put("refused", refused.getCause().getMessage());
      }
      SAID.put("unread", unread(client, details, checkpoint, args[3]));
      client.disposeSavepoint(savepoint).get(30, TimeUnit.SECONDS);
      SAID.put("stopped",
          client.stopWithSavepoint(job, false, args[2], SavepointFormatType.NATIVE).get(60, TimeUnit.SECONDS));
    }
    System.out.println(new ObjectMapper().writeValueAsString(SAID));
    System.exit(0);
  }

  /** Questions whose answers Flink's classes can't be made of, with the reason; and how many could. */
  @SuppressWarnings({"unchecked", "rawtypes"})
  static List<String> unread(RestClusterClient<String> client, JobDetailsInfo details,
      long checkpoint, String runtimeJar) throws Exception {
    String taskManager = client
        .sendRequest(TaskManagersHeaders.getInstance(), EmptyMessageParameters.getInstance(),
            EmptyRequestBody.getInstance())
        .get().getTaskManagerInfos().iterator().next().getResourceId().getResourceIdString();
    Map<String, String> values = Map.of(
        "taskmanagerid", taskManager,
        "jobid", details.getJobId().toString(),
        "vertexid", details.getJobVertexInfos().iterator().next().getJobVertexID().toString(),
        "checkpointid", Long.toString(checkpoint), "subtaskindex", "0", "attempt", "1");
    List<String> faults = new ArrayList<>();
    int read = 0;
    for (MessageHeaders headers : questions(runtimeJar)) {
      MessageParameters parameters = headers.getUnresolvedMessageParameters();
      boolean known = true;
      for (MessagePathParameter<?> one : parameters.getPathParameters()) {
        if (values.containsKey(one.getKey())) one.resolveFromString(values.get(one.getKey()));
        else known = false;
      }
      if (!known) continue;
      try {
        client.sendRequest(headers, parameters, EmptyRequestBody.getInstance()).get();
        read++;
      } catch (Exception fault) {
        faults.add(headers.getTargetRestEndpointURL() + ": " + fault.getMessage());
      }
    }
    SAID.put("read", read);
    return faults;
  }

  @SuppressWarnings("rawtypes")
  static Collection<MessageHeaders> questions(String runtimeJar) throws Exception {
    List<MessageHeaders> found = new ArrayList<>();
    try (JarFile jar = new JarFile(new File(runtimeJar))) {
      for (JarEntry entry : Collections.list(jar.entries())) {
        Object headers = Shapes.headersIn(entry.getName());
        if (!(headers instanceof MessageHeaders)) continue;
        MessageHeaders question = (MessageHeaders) headers;
        String endpoint = question.getHttpMethod() + " " + question.getTargetRestEndpointURL();
        if (endpoint.startsWith("GET") && !endpoint.matches(Shapes.NOT_SERVED)) found.add(question);
      }
    }
    return found;
  }
}
