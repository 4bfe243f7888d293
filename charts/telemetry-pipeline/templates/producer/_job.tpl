{{/*
The Job of a replay: its name, what it does when its pod fails, and metadata and spec of the pod. As JSON.

A Job can't be changed: other settings, and another file, are another Job. It goes on where the one before it stopped.
*/}}
{{- define "telemetry.replayJob" -}}
{{- $replay := .Values.producer.replay }}
{{- $part := dict "root" $ "component" "producer" "values" .Values.producer }}
{{- $args := list }}
{{- range compact (prepend $replay.files $replay.file) }}
{{- $args = concat $args (list "--from" (printf "/replay/%s" .)) }}
{{- end }}
{{- $args = append $args "--resume" }}
{{- /* Nobody goes on writing to a ConfigMap: a last line without an end is a line. */}}
{{- if $replay.configMap }}
{{- $args = append $args "--complete" }}
{{- end }}
{{- $mounts := list (dict "name" "replay" "mountPath" "/replay" "readOnly" true) }}
{{- $volumes := list }}
{{- /* What is in the files, where Helm can look: all, since a name may be a pattern. On a volume it can't, nor without a cluster: there, `revision` tells. */}}
{{- $content := $replay.revision }}
{{- if $replay.configMap }}
{{- $volumes = append $volumes (dict "name" "replay" "configMap" (dict "name" (tpl $replay.configMap $))) }}
{{- $there := lookup "v1" "ConfigMap" .Release.Namespace (tpl $replay.configMap $) | default dict }}
{{- $content = printf "%s%s%s" $content (dig "data" dict $there | toJson) (dig "binaryData" dict $there | toJson) }}
{{- else }}
{{- $volumes = append $volumes (dict "name" "replay" "persistentVolumeClaim" (dict "claimName" (tpl $replay.existingClaim $) "readOnly" true)) }}
{{- end }}
{{- if or $replay.mapping $replay.mappingConfigMap }}
{{- $from := tpl $replay.mappingConfigMap $ | default (include "telemetry.mappingName" $) }}
{{- $key := empty $replay.mapping | ternary $replay.mappingKey "mapping.toml" }}
{{- $args = concat $args (list "--mapping" "/etc/telemetry/mapping/mapping.toml") }}
{{- $mounts = append $mounts (dict "name" "mapping" "mountPath" "/etc/telemetry/mapping" "readOnly" true) }}
{{- $volumes = append $volumes (dict "name" "mapping" "configMap" (dict "name" $from "items" (list (dict "key" $key "path" "mapping.toml")))) }}
{{- $there := $replay.mappingConfigMap | empty | ternary dict (lookup "v1" "ConfigMap" .Release.Namespace $from | default dict) }}
{{- $content = printf "%s%s%s%s" $content $replay.mapping (dig "data" $key "" $there) (dig "binaryData" $key "" $there) }}
{{- end }}
{{- if $replay.maxRejected }}
{{- $args = concat $args (list "--max-rejected" (int64 $replay.maxRejected | toString)) }}
{{- end }}
{{- $_ := set $part "args" (toYaml (concat $args $replay.args)) }}
{{- $_ := set $part "mounts" (toYaml $mounts) }}
{{- $_ := set $part "volumes" (toYaml $volumes) }}
{{- /* A node that is drained is no failure. 2: the file, the options or a setting can't be used, and no other try finds them changed.
3: lines were refused, and another try would find nothing left to publish, and end well. 4 is in neither: it was stopped, and goes on. */}}
{{- $drained := dict "action" "Ignore" "onPodConditions" (list (dict "type" "DisruptionTarget")) }}
{{- $wrong := dict "action" "FailJob" "onExitCodes" (dict "containerName" "producer" "operator" "In" "values" (list 2 3)) }}
{{- $failures := dict "rules" (list $drained $wrong) }}
{{- $metadata := include "telemetry.podMetadata" $part }}
{{- $spec := include "telemetry.podSpec" $part }}
{{- $name := printf "%s-replay-%s" (include "telemetry.fullname" .) (printf "%s%s%s%s" $metadata $spec (toYaml $failures) $content | sha256sum | trunc 8) }}
{{- dict "name" $name "failures" $failures "metadata" $metadata "spec" $spec | toJson }}
{{- end -}}

{{/* The ConfigMap of a mapping that stands among the values. */}}
{{- define "telemetry.mappingName" -}}
{{ include "telemetry.fullname" . }}-replay-mapping
{{- end -}}
