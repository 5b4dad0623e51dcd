{{/* The release's name, once: "spindle" stays "spindle", "prod" becomes "prod-spindle". */}}
{{- define "spindle.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that never change: (dict "context" $ "component" "operator") */}}
{{- define "spindle.selector" -}}
app.kubernetes.io/name: {{ .context.Chart.Name }}
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
{{- $tag := .image.tag | default $all.tag | default .context.Chart.AppVersion -}}
{{- with .image.registry | default $all.registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ $tag }}
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

{{/* The Secret with the runtime configuration of every app; empty when there is none. */}}
{{- define "spindle.runtimeConfigSecret" -}}
{{- if .Values.runtime.defaultRuntimeConfig -}}
{{- printf "%s-runtime-config" (include "spindle.fullname" .) -}}
{{- else -}}
{{- .Values.runtime.defaultRuntimeConfigSecret -}}
{{- end -}}
{{- end }}

{{/* What the restricted Pod Security standard asks of a pod. */}}
{{- define "spindle.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What it asks of a container. */}}
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
