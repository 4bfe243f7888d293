{{/* A container of `helm test`: a dict of `consumer`, and of what is `told`: its `name` and `command`. Settings are the consumers'. */}}
{{- define "telemetry.testContainer" -}}
- name: {{ .told.name }}
  image: {{ include "telemetry.image" (dict "root" .consumer.root "image" .consumer.values.image) }}
  imagePullPolicy: {{ .consumer.values.image.pullPolicy }}
  securityContext:
    {{- toYaml .consumer.values.securityContext | nindent 4 }}
  {{- with .consumer.values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  command:
    {{- toYaml .told.command | nindent 4 }}
  {{- $fromSecret := include "telemetry.databaseEnv" .consumer.root | trim }}
  {{- if or $fromSecret .consumer.values.extraEnv }}
  env:
    {{- with $fromSecret }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .consumer.values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  envFrom:
    - configMapRef: {name: {{ include "telemetry.fullname" .consumer.root }}-consumer}
    {{- with .consumer.values.extraEnvFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumeMounts:
    {{- include "telemetry.mounts" .consumer | nindent 4 }}
    {{- if not (include "telemetry.database" .consumer.root | fromJson).used }}
    - {name: data, mountPath: /data}
    {{- end }}
{{- end -}}
