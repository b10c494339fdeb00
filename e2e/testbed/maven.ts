/** Jars from Maven Central with all they depend on, fetched once per machine. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installOnce } from './cache.ts';

export type MavenArtifact = readonly [group: string, artifact: string, version: string];

/** The folder with the jars; `name` bears their version (cache.ts). */
export async function installJars(
  name: string,
  artifacts: readonly MavenArtifact[],
): Promise<string> {
  return await installOnce(name, async (folder) => {
    const dependencies = artifacts.map(
      ([group, artifact, version]) =>
        `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId>` +
        `<version>${version}</version></dependency>`,
    );
    const pom = join(folder, 'pom.xml');
    await writeFile(
      pom,
      '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>' +
        '<groupId>triggerjob</groupId><artifactId>testbed-jars</artifactId><version>1</version>' +
        `<packaging>pom</packaging><dependencies>${dependencies.join('')}</dependencies></project>`,
    );
    const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${folder}`];
    await promisify(execFile)('mvn', ['-q', '-B', '-f', pom, ...goal]);
  });
}
