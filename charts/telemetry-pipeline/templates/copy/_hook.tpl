{{/*
The annotations of what an upgrade does first: a weight, as text; 0 is the Job's, which stays with its log. The others go with success.
*/}}
{{- define "telemetry.copyHook" -}}
helm.sh/hook: pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: {{ eq . "0" | ternary "before-hook-creation" "before-hook-creation,hook-succeeded" }}
{{- end -}}

{{/* The claim whose database is copied. */}}
{{- define "telemetry.copiedClaim" -}}
{{- tpl .Values.copy.existingClaim . | default (printf "%s-consumer-data" (include "telemetry.fullname" .)) -}}
{{- end -}}
