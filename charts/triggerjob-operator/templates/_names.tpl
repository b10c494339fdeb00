{{- define "operator.name" -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cluster-wide, so that operators of several namespaces do not share a role. */}}
{{- define "operator.clusterName" -}}
{{ include "operator.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "operator.name" .) }}
{{- end }}

{{/* The NetworkPolicies of jobs let pods in by app.kubernetes.io/name. */}}
{{- define "operator.selector" -}}
app.kubernetes.io/name: triggerjob-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "operator.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "operator.hmacSecret" -}}
{{ .Values.hmacKey.existingSecret | default (printf "%s-key" (include "operator.name" .)) }}
{{- end }}

{{- define "operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "operator.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end }}
