{{- define "footfall.name" -}}
{{- .Values.nameOverride | default (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end }}

{{- define "footfall.selector" -}}
app.kubernetes.io/name: footfall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "footfall.labels" -}}
{{ include "footfall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "footfall.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "footfall.port" -}}
{{- regexFind "[0-9]+$" .Values.settings.metrics.listen -}}
{{- end }}

{{/* How many processes listen in one pod: each on a port of its own, counted up. */}}
{{- define "footfall.inside" -}}
{{- if eq .Values.topology "single" }}{{ int .Values.processes }}{{ else }}1{{ end -}}
{{- end }}
