/** Where objects and files are: `s3://bucket/prefix/`, `file:///dir/`, plain paths. */
import { isAbsolute, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

type Location = { kind: 's3'; uri: string } | { kind: 'path'; path: string };

const SCHEME = /^([A-Za-z][A-Za-z0-9+.-]*):(\/\/)?/;
const S3 = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/.*)?$/;

/** What a location means, or why it can't be one. Says nothing about whether it exists. */
export function parseLocation(text: string): Location | { problem: string } {
  const scheme = SCHEME.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) return { kind: 'path', path: text };
  switch (scheme) {
    case 's3':
      if (!S3.test(text))
        return { problem: `${text} names no valid bucket: write s3://bucket/dir/` };
      return { kind: 's3', uri: text };
    case 'file':
      try {
        return { kind: 'path', path: fileURLToPath(text) };
      } catch {
        return { problem: `${text} is no local file URL: write file:///dir/ (three slashes)` };
      }
    case 'hdfs':
      return { problem: 'hdfs:// is not supported: write s3://bucket/dir/ or file:///shared/dir/' };
    case 's3a':
    case 's3n':
    case 's3p':
      return { problem: `${scheme}:// is a name of Hadoop and Flink plugins: write s3://` };
    default:
      return { problem: `${scheme}:// is not supported: write s3://, file:/// or a path` };
  }
}

/** Absolute path; `baseDir` is where a relative one starts. Null when relative without a base. */
export function resolvePath(path: string, baseDir: string | null): string | null {
  if (isAbsolute(path)) return path;
  return baseDir === null ? null : join(baseDir, path);
}

/**
 * The location as an `s3://` or `file://` URI, null when it is no location or relative without a
 * base. A path becomes a URL with everything escaped, so that `#` and blanks survive.
 */
export function locationUri(text: string, baseDir: string | null): string | null {
  const location = parseLocation(text);
  if ('problem' in location) return null;
  if (location.kind === 's3') return location.uri;
  const path = resolvePath(location.path, baseDir);
  return path === null ? null : pathToFileURL(path).href;
}

/** As `locationUri`, with exactly one slash at the end: prefixes and folders are compared by it. */
export function directoryUri(text: string, baseDir: string | null): string | null {
  const uri = locationUri(text, baseDir);
  return uri === null ? null : `${uri.replace(/\/+$/, '')}/`.replace(/^file:\/$/, 'file:///');
}
