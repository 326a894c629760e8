{{- define "footfall.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.user }}
runAsGroup: {{ int .Values.user }}
fsGroup: {{ int .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "footfall.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop:
    - ALL
{{- end }}

{{/* Mounts of a pod: the settings of `map`, what they name, and a place for scratch. */}}
{{- define "footfall.mounts" -}}
- name: settings
  mountPath: /etc/footfall/footfall.toml
  subPath: footfall.toml
  readOnly: true
{{- range $name, $from := .Values.secrets }}
{{- if $from.existingSecret }}
- name: secret-{{ $name }}
  mountPath: /etc/footfall/secrets/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "footfall.volumes" -}}
- name: settings
  configMap:
    name: {{ .map }}
{{- range $name, $from := .root.Values.secrets }}
{{- if $from.existingSecret }}
- name: secret-{{ $name }}
  secret:
    secretName: {{ $from.existingSecret }}
    defaultMode: 256  # 0400
{{- end }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmpSize }}
{{- end }}

{{- define "footfall.placing" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* A probe of our own endpoints. Several processes in a pod are asked one by one: any that fails, fails. */}}
{{- define "footfall.probe" -}}
{{- $inside := int (include "footfall.inside" .root) }}
{{- $port := int (include "footfall.port" .root) }}
{{- if eq $inside 1 -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{- else -}}
exec:
  command:
    - python
    - -c
    - "from urllib.request import urlopen; [urlopen(f'http://127.0.0.1:{port}{{ .path }}', timeout=4) for port in range({{ $port }}, {{ add $port $inside }})]"
{{- end }}
timeoutSeconds: 5
{{- end }}
