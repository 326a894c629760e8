{{/* footfall.toml: every key of .Values.settings, and no other. A JSON string or number is one of TOML too. */}}
{{- define "footfall.toml" -}}
{{- range $name := keys .Values.settings | sortAlpha }}
{{- include "footfall.section" (dict "name" $name "found" (index $.Values.settings $name)) }}
{{- end }}
{{- end }}

{{- define "footfall.section" -}}
{{- $name := .name }}{{ $found := .found }}
{{- $lines := list }}
{{- range $key := keys $found | sortAlpha }}
{{- $value := index $found $key }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{- $lines = append $lines (printf "%s = %s" $key (toJson $value)) }}
{{- end }}
{{- end }}
{{- if $lines }}
[{{ $name }}]
{{ join "\n" $lines }}
{{ end }}
{{- range $key := keys $found | sortAlpha }}
{{- $value := index $found $key }}
{{- if kindIs "map" $value }}
{{- include "footfall.section" (dict "name" (printf "%s.%s" $name $key) "found" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What no schema says. Each message names the value, and what to write. */}}
{{- define "footfall.checks" -}}
{{- $settings := .Values.settings }}
{{- $lanes := int (dig "engine" "lanes" 16 $settings) }}
{{- if not (dig "kafka" "bootstrap" "" $settings) }}
{{- fail "settings.kafka.bootstrap must name a broker, host:port" }}
{{- end }}
{{- if not (dig "registry" "url" "" $settings) }}
{{- fail "settings.registry.url must name a schema registry" }}
{{- end }}
{{- $shards := int (dig "engine" "shards" 1 $settings) }}
{{- if and (eq .Values.flow "activation") (gt (int .Values.processes) 1) (lt $shards 8) }}
{{- fail (printf "settings.engine.shards must be 8 to 64 for several processes of activation; got %d" $shards) }}
{{- end }}
{{- if and (eq .Values.flow "presence") (gt (int .Values.processes) $lanes) }}
{{- fail (printf "processes must be at most settings.engine.lanes, %d; got %d" $lanes (int .Values.processes)) }}
{{- end }}
{{- if ne (dig "state" "backend" "" $settings) "rocksdb" }}
{{- fail "settings.state.backend must be rocksdb: a restart would forget everything" }}
{{- end }}
{{- if not (hasPrefix "/var/lib/footfall/" (dig "state" "dir" "" $settings)) }}
{{- fail "settings.state.dir must lie under /var/lib/footfall/, where the volume is" }}
{{- end }}
{{- if regexMatch "^(127\\.|localhost|\\[::1\\])" (dig "metrics" "listen" "" $settings) }}
{{- fail "settings.metrics.listen must be an address that probes reach, such as 0.0.0.0:9464" }}
{{- end }}
{{- if and (eq (dig "kafka" "profile" "plaintext" $settings) "plaintext") (not .Values.insecure) }}
{{- fail "settings.kafka.profile must not be plaintext; for a try on your own machine set insecure: true" }}
{{- end }}
{{- range $section, $found := $settings }}
{{- range $key, $value := $found }}
{{- if and (hasSuffix "_file" $key) (kindIs "string" $value) }}
{{- $parts := splitList "/" $value }}
{{- $secrets := $.Values.secrets }}
{{- if and (eq (first $parts) "secrets") (gt (len $parts) 2) }}
{{- if not (dig (index $parts 1) "existingSecret" "" $secrets) }}
{{- fail (printf "secrets.%s.existingSecret must name the Secret that settings.%s.%s lies in" (index $parts 1) $section $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $old := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "footfall.name" .) }}
{{- if $old }}
{{- $noted := dig "metadata" "annotations" (dict) $old }}
{{- $fixed := dict "topology" .Values.topology }}
{{- if ne .Values.flow "activation" }}
{{- $fixed = set $fixed "processes" (toString (int .Values.processes)) }}
{{- end }}
{{- range $key, $now := $fixed }}
{{- $before := get $noted (printf "footfall/%s" $key) }}
{{- if and $before (ne $before $now) }}
{{- fail (printf "%s was %s when this state was begun, and is fixed for its life; got %s" $key $before $now) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
