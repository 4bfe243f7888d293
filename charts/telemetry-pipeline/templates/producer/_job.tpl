{{/*
The Job of a replay: its name, and metadata and spec of its pod. As JSON.

A Job can't be changed: other settings, and another file, are another Job. It goes on where the one before it stopped.
*/}}
{{- define "telemetry.replayJob" -}}
{{- $replay := .Values.producer.replay }}
{{- $part := dict "root" $ "component" "producer" "values" .Values.producer }}
{{- $args := list "--from" (printf "/replay/%s" $replay.file) "--resume" }}
{{- /* Nobody goes on writing to a ConfigMap: a last line without an end is a line. */}}
{{- if $replay.configMap }}
{{- $args = append $args "--complete" }}
{{- end }}
{{- $_ := set $part "args" (toYaml (concat $args $replay.args)) }}
{{- $_ := set $part "mounts" "- {name: replay, mountPath: /replay, readOnly: true}" }}
{{- /* What is in the file, where Helm can look. On a volume it can't, nor without a cluster: there, `revision` tells. */}}
{{- $content := $replay.revision }}
{{- if $replay.configMap }}
{{- $_ := set $part "volumes" (printf "- name: replay\n  configMap: {name: %s}" (tpl $replay.configMap $)) }}
{{- $there := lookup "v1" "ConfigMap" .Release.Namespace (tpl $replay.configMap $) | default dict }}
{{- $content = printf "%s%s%s" $content (dig "data" $replay.file "" $there) (dig "binaryData" $replay.file "" $there) }}
{{- else }}
{{- $_ := set $part "volumes" (printf "- name: replay\n  persistentVolumeClaim: {claimName: %s, readOnly: true}" (tpl $replay.existingClaim $)) }}
{{- end }}
{{- $metadata := include "telemetry.podMetadata" $part }}
{{- $spec := include "telemetry.podSpec" $part }}
{{- $name := printf "%s-replay-%s" (include "telemetry.fullname" .) (printf "%s%s%s" $metadata $spec $content | sha256sum | trunc 8) }}
{{- dict "name" $name "metadata" $metadata "spec" $spec | toJson }}
{{- end -}}
