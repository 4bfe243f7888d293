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
  {{- with .consumer.values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  envFrom:
    - configMapRef: {name: {{ include "telemetry.fullname" .consumer.root }}-consumer}
    {{- with .consumer.values.extraEnvFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumeMounts:
    {{- include "telemetry.mounts" .consumer | nindent 4 }}
    - {name: data, mountPath: /data}
{{- end -}}
