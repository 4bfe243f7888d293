{{/* What a producer reads that takes events from others (producer.mode http or mqtt). Each takes the root. */}}

{{/*
Its files, each of a Secret or a ConfigMap: `volume`, `secret` or `configMap`, `items` (names of files by key), and the `settings` that name
them. As JSON, below `files`.
*/}}
{{- define "telemetry.sentFiles" -}}
{{- include (printf "telemetry.%sFiles" .Values.producer.mode) . -}}
{{- end -}}

{{/* The settings that the chart sets itself. */}}
{{- define "telemetry.sentSettings" }}
PRODUCER_MODE: {{ .Values.producer.mode }}
{{- include (printf "telemetry.%sSettings" .Values.producer.mode) . }}
{{- range (include "telemetry.sentFiles" . | fromJson).files }}
{{- $folder := .volume }}
{{- range $setting, $file := .settings }}
{{ $setting }}: /etc/telemetry/{{ $folder }}/{{ $file }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volumes and mounts of these files, as JSON. A changed password, token or certificate is read again; a changed mapping is another pod. */}}
{{- define "telemetry.sentVolumes" -}}
{{- $volumes := list -}}
{{- $mounts := list -}}
{{- range (include "telemetry.sentFiles" . | fromJson).files -}}
{{- $items := list -}}
{{- range $key, $path := .items -}}
{{- $items = append $items (dict "key" $key "path" $path) -}}
{{- end -}}
{{- if .secret -}}
{{- $volumes = append $volumes (dict "name" .volume "secret" (dict "secretName" .secret "defaultMode" 0440 "items" $items)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" .volume "configMap" (dict "name" .configMap "items" $items)) -}}
{{- end -}}
{{- $mounts = append $mounts (dict "name" .volume "mountPath" (printf "/etc/telemetry/%s" .volume) "readOnly" true) -}}
{{- end -}}
{{- dict "volumes" $volumes "mounts" $mounts | toJson -}}
{{- end -}}
