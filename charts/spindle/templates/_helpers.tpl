{{/* The chart's name, unless it is to have another. */}}
{{- define "spindle.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The release's name, once: "spindle" stays "spindle", "prod" becomes "prod-spindle". Short enough for what follows it. */}}
{{- define "spindle.fullname" -}}
{{- $name := include "spindle.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that never change: (dict "context" $ "component" "operator") */}}
{{- define "spindle.selector" -}}
app.kubernetes.io/name: {{ include "spindle.name" .context }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Every label. */}}
{{- define "spindle.labels" -}}
{{ include "spindle.selector" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: spindle
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A full image name: (dict "context" $ "image" .Values.operator.image) */}}
{{- define "spindle.image" -}}
{{- $all := .context.Values.image -}}
{{- with .image.registry | default $all.registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default $all.tag | default .context.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "spindle.operator.serviceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (printf "%s-operator" (include "spindle.fullname" .)) -}}
{{- end }}

{{- define "spindle.runtime.serviceAccount" -}}
{{- .Values.runtime.serviceAccount.name | default (printf "%s-node-runtime" (include "spindle.fullname" .)) -}}
{{- end }}

{{/* The Bindle server of apps that name none; empty when there is none. */}}
{{- define "spindle.defaultBindleServer" -}}
{{- if .Values.operator.defaultBindleServer -}}
{{- .Values.operator.defaultBindleServer -}}
{{- else if .Values.bindleServer.enabled -}}
http://{{ include "spindle.fullname" . }}-bindle-server.{{ .Release.Namespace }}.svc:{{ .Values.bindleServer.service.port }}/v1
{{- end -}}
{{- end }}

{{/* The ConfigMap with the authorities that content is fetched from; empty for the system's. */}}
{{- define "spindle.sourceCa" -}}
{{- if .Values.sources.ca -}}
{{- printf "%s-source-ca" (include "spindle.fullname" .) -}}
{{- else -}}
{{- .Values.sources.caConfigMap -}}
{{- end -}}
{{- end }}

{{/* The Secret with the keyring of bundles; empty when signatures are not asked for. */}}
{{- define "spindle.sourceKeyring" -}}
{{- if .Values.sources.keyring -}}
{{- printf "%s-source-keyring" (include "spindle.fullname" .) -}}
{{- else -}}
{{- .Values.sources.keyringSecret -}}
{{- end -}}
{{- end }}

{{/* Refuses values that contradict each other, with what to do. */}}
{{- define "spindle.validate" -}}
{{- range $pair := list
  (list "sources.ca" .Values.sources.ca "sources.caConfigMap" .Values.sources.caConfigMap)
  (list "sources.keyring" .Values.sources.keyring "sources.keyringSecret" .Values.sources.keyringSecret)
  (list "runtime.defaultRuntimeConfig" .Values.runtime.defaultRuntimeConfig "runtime.defaultRuntimeConfigSecret" .Values.runtime.defaultRuntimeConfigSecret)
  (list "bindleServer.keyring" .Values.bindleServer.keyring "bindleServer.keyringSecret" .Values.bindleServer.keyringSecret) }}
{{- if and (index $pair 1) (index $pair 3) }}
{{- fail (printf "set %s or %s, not both" (index $pair 0) (index $pair 2)) }}
{{- end }}
{{- end }}
{{- if and .Values.sources.ca (not (contains "-----BEGIN CERTIFICATE-----" .Values.sources.ca)) }}
{{- fail "sources.ca has no PEM certificate: set it with --set-file sources.ca=FILE" }}
{{- end }}
{{- with .Values.runtime.localPortRange }}
{{- if le (int (first (regexSplit "[ \t]+" . -1))) 32767 }}
{{- fail (printf "runtime.localPortRange %q takes ports of apps (10000-32767): begin it above 32767, e.g. \"32768 60999\"" .) }}
{{- end }}
{{- end }}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- range $where, $labels := dict
  "commonLabels" .Values.commonLabels
  "operator.podLabels" .Values.operator.podLabels
  "runtime.podLabels" .Values.runtime.podLabels
  "bindleServer.podLabels" .Values.bindleServer.podLabels }}
{{- range $label, $_ := $labels }}
{{- if has $label $own }}
{{- fail (printf "%s: the label %s is the chart's own: choose another" $where $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $part, $own := dict
  "operator" (list "tmp" "runtime-config" "source-ca" "source-keyring")
  "runtime" (list "data" "secrets" "tls" "tmp" "source-ca")
  "bindleServer" (list "data" "keyring" "htpasswd" "tmp") }}
{{- range (index $.Values $part).extraVolumes }}
{{- if has .name $own }}
{{- fail (printf "%s.extraVolumes: the name %q is taken by a volume of the chart: choose another" $part .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secret with the runtime configuration of every app; empty when there is none. */}}
{{- define "spindle.runtimeConfigSecret" -}}
{{- if .Values.runtime.defaultRuntimeConfig -}}
{{- printf "%s-runtime-config" (include "spindle.fullname" .) -}}
{{- else -}}
{{- .Values.runtime.defaultRuntimeConfigSecret -}}
{{- end -}}
{{- end }}

{{/* Over nodes as evenly as possible: (dict "context" $ "values" .Values.operator "labels" $labels) */}}
{{- define "spindle.spread" -}}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "spindle.selector" .labels | nindent 8 }}
{{- end }}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a container. */}}
{{- define "spindle.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes on the admin port. */}}
{{- define "spindle.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{/* What every pod may be given: (dict "context" $ "values" .Values.operator) */}}
{{- define "spindle.scheduling" -}}
{{- with .context.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
