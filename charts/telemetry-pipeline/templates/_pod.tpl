{{/* What the pods of both services share. Each takes a dict of `root`, `component` and `values`, the part of it. */}}

{{/* The settings of a service, as variables: streamName is STREAM_NAME. */}}
{{- define "telemetry.settings" -}}
{{- $redis := include "telemetry.redis" .root | fromJson -}}
REDIS_HOST: {{ $redis.host | quote }}
REDIS_PORT: {{ include "telemetry.text" $redis.port | quote }}
REDIS_DB: {{ include "telemetry.text" $redis.database | quote }}
{{- with get $redis.users .component }}
REDIS_USERNAME: {{ . | quote }}
{{- end }}
{{- if $redis.secret }}
REDIS_PASSWORD_FILE: /etc/telemetry/redis/password
{{- end }}
{{- if $redis.tls }}
REDIS_TLS: "true"
{{- end }}
{{- if $redis.caSecret }}
REDIS_CA_FILE: /etc/telemetry/ca/ca.crt
{{- end }}
{{- if $redis.certSecret }}
REDIS_CERT_FILE: /etc/telemetry/cert/tls.crt
REDIS_KEY_FILE: /etc/telemetry/cert/tls.key
{{- end }}
{{- $database := include "telemetry.database" .root | fromJson }}
{{- if and (eq .component "consumer") $database.used }}
{{- /* The address chooses the store; libpq reads the rest by its own names, and those that the Secret has are no settings. */}}
DATABASE_URL: "postgresql://"
PIPELINE_NAME: {{ .root.Values.database.pipeline | default (printf "%s/%s" .root.Release.Namespace .root.Release.Name) | quote }}
{{- range $variable, $value := dict "PGHOST" $database.host "PGPORT" (include "telemetry.text" $database.port) "PGDATABASE" $database.name
      "PGUSER" $database.user "PGSSLMODE" $database.sslmode "PGSSLROOTCERT" $database.authority
      "PGTARGETSESSIONATTRS" (contains "," $database.host | ternary "read-write" "") }}
{{- if $value }}
{{ $variable }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- if $database.secret }}
DATABASE_PASSWORD_FILE: /etc/telemetry/database/password
{{- end }}
{{- if $database.certSecret }}
PGSSLCERT: /etc/telemetry/database-cert/tls.crt
PGSSLKEY: /etc/telemetry/database-cert/tls.key
{{- end }}
{{- end }}
{{- if .root.Values.kpis }}
KPIS_FILE: /etc/telemetry/kpis/kpis.toml
{{- end }}
{{- range $kpi, $threshold := .root.Values.thresholds }}
{{- if not (kindIs "invalid" $threshold) }}
THRESHOLD_{{ $kpi | upper }}: {{ include "telemetry.text" $threshold | quote }}
{{- end }}
{{- end }}
{{- $settings := merge (dict) .values.settings .root.Values.settings }}
{{- if and (eq .component "producer") (has .values.mode (list "http" "mqtt")) }}
{{- include "telemetry.sentSettings" .root }}
{{- $settings = merge (dict) (get .values .values.mode).settings $settings }}
{{- end }}
{{- /* The pace of the generator is none for a file: without these, it is read as fast as it goes. */}}
{{- if and (eq .component "producer") (eq .values.mode "replay") }}
{{- $settings = omit $settings "batchSize" "sleepInterval" }}
{{- end }}
{{- range $key, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $key | snakecase | upper }}: {{ include "telemetry.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The variables that the chart sets beside the settings. extraEnv may not name one again. */}}
{{- define "telemetry.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- with .root.Values.otlp }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME)
{{- if .metrics }}
- name: OTEL_METRICS_EXPORTER
  value: otlp
{{- end }}
{{- if .logs }}
- name: OTEL_LOGS_EXPORTER
  value: otlp
{{- end }}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: OTEL_EXPORTER_OTLP_HEADERS}}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq .component "producer") (eq .values.mode "mqtt") }}
- name: MQTT_CLIENT_ID
  value: $(POD_NAMESPACE).$(POD_NAME)
{{- end }}
{{- if eq .component "consumer" }}
- name: CONSUMER_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with include "telemetry.databaseEnv" .root | trim }}
{{ . }}
{{- end }}
{{- $redis := include "telemetry.redis" .root | fromJson }}
{{- if and .values.operatorAccess $redis.secret }}
- name: OPERATOR_REDIS_USERNAME
  value: {{ $redis.users.operator | quote }}
- name: OPERATOR_REDIS_PASSWORD_FILE
  value: /etc/telemetry/operator/password
{{- end }}
{{- end }}
{{- end -}}

{{/* What leads to PostgreSQL, where it is used: the files of those who open it. */}}
{{- define "telemetry.databaseMounts" -}}
{{- $database := include "telemetry.database" . | fromJson }}
{{- if and $database.used $database.secret }}
- {name: database-password, mountPath: /etc/telemetry/database, readOnly: true}
{{- end }}
{{- if and $database.used $database.caSecret }}
- {name: database-ca, mountPath: /etc/telemetry/database-ca, readOnly: true}
{{- end }}
{{- if and $database.used $database.certSecret }}
- {name: database-cert, mountPath: /etc/telemetry/database-cert, readOnly: true}
{{- end }}
{{- end -}}

{{- define "telemetry.databaseVolumes" -}}
{{- $database := include "telemetry.database" . | fromJson }}
{{- if $database.used }}
{{- if $database.secret }}
- name: database-password
  secret:
    secretName: {{ $database.secret }}
    defaultMode: 0440
    items: [{key: {{ $database.keys.password }}, path: password}]
{{- end }}
{{- if $database.caSecret }}
- name: database-ca
  secret:
    secretName: {{ $database.caSecret }}
    items: [{key: {{ $database.caKey }}, path: ca.crt}]
{{- end }}
{{- if $database.certSecret }}
- name: database-cert
  secret:
    secretName: {{ $database.certSecret }}
    # libpq refuses a private key that others can read.
    defaultMode: 0440
    items:
      - {key: {{ $database.certKey }}, path: tls.crt}
      - {key: {{ $database.privateKey }}, path: tls.key}
{{- end }}
{{- end }}
{{- end -}}

{{- define "telemetry.mounts" -}}
{{- $redis := include "telemetry.redis" .root | fromJson -}}
- {name: tmp, mountPath: /tmp}
{{- if $redis.secret }}
- {name: redis-password, mountPath: /etc/telemetry/redis, readOnly: true}
{{- end }}
{{- if $redis.caSecret }}
- {name: redis-ca, mountPath: /etc/telemetry/ca, readOnly: true}
{{- end }}
{{- if $redis.certSecret }}
- {name: redis-cert, mountPath: /etc/telemetry/cert, readOnly: true}
{{- end }}
{{- if eq .component "consumer" }}
{{- with include "telemetry.databaseMounts" .root | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- if .root.Values.kpis }}
- {name: kpis, mountPath: /etc/telemetry/kpis, readOnly: true}
{{- end }}
{{- end -}}

{{/* Each pod is given its own password, and no other. */}}
{{- define "telemetry.volumes" -}}
{{- $redis := include "telemetry.redis" .root | fromJson -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if $redis.secret }}
- name: redis-password
  secret:
    secretName: {{ $redis.secret }}
    defaultMode: 0440
    items: [{key: {{ get $redis.keys .component }}, path: password}]
{{- end }}
{{- if $redis.caSecret }}
- name: redis-ca
  secret:
    secretName: {{ $redis.caSecret }}
    items: [{key: {{ $redis.caKey }}, path: ca.crt}]
{{- end }}
{{- if $redis.certSecret }}
- name: redis-cert
  secret:
    secretName: {{ $redis.certSecret }}
    defaultMode: 0440
    items:
      - {key: {{ $redis.certKey }}, path: tls.crt}
      - {key: {{ $redis.privateKey }}, path: tls.key}
{{- end }}
{{- if eq .component "consumer" }}
{{- with include "telemetry.databaseVolumes" .root | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- if .root.Values.kpis }}
- name: kpis
  configMap: {name: {{ include "telemetry.fullname" .root }}-kpis}
{{- end }}
{{- end -}}

{{/* Nothing in /tmp outlives a process: it need not keep a cluster autoscaler from emptying a node. */}}
{{- define "telemetry.evictable" -}}
cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: tmp
{{- end -}}

{{/* The metadata of a pod. A changed setting or KPI file is a changed pod; a rotated password is not, as it is read again. */}}
{{- define "telemetry.podMetadata" -}}
{{- /* Without the chart's version: a new one alone is no reason to replace pods. */}}
{{- $labels := include "telemetry.labels" (merge (dict "labels" .values.podLabels) .) | fromYaml }}
labels:
  {{- omit $labels "helm.sh/chart" | toYaml | nindent 2 }}
{{- $checksums := dict "checksum/settings" (include "telemetry.settings" . | sha256sum) }}
{{- if .root.Values.kpis }}
{{- $_ := set $checksums "checksum/kpis" (.root.Values.kpis | sha256sum) }}
{{- end }}
{{- with .mappings }}
{{- $_ := set $checksums "checksum/mappings" (. | sha256sum) }}
{{- end }}
{{- $default := dict "kubectl.kubernetes.io/default-container" .component }}
annotations:
  {{- merge (dict) $checksums .values.podAnnotations .root.Values.commonAnnotations $default (include "telemetry.evictable" . | fromYaml) | toYaml | nindent 2 }}
{{- end -}}

{{/*
The container of a service. `args`, `env`, `mounts` and `volumes` add to what is shared, as YAML text. Where it takes events,
`eventsPort` is the port, and `preStopSeconds` how long it goes on once the pod is to end.
*/}}
{{- define "telemetry.podSpec" -}}
serviceAccountName: {{ include "telemetry.serviceAccountName" .root | quote }}
automountServiceAccountToken: false
# Service links would put variables such as REDIS_PORT=tcp://... into the environment.
enableServiceLinks: false
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .component }}
    image: {{ include "telemetry.image" (dict "root" .root "image" .values.image) }}
    imagePullPolicy: {{ .values.image.pullPolicy }}
    securityContext:
      {{- toYaml .values.securityContext | nindent 6 }}
    {{- with .args }}
    args:
      {{- . | nindent 6 }}
    {{- end }}
    env:
      {{- include "telemetry.env" . | nindent 6 }}
      {{- with .values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    # What stands in env stands above it: that is how extraEnv overrides a setting.
    envFrom:
      - configMapRef: {name: {{ include "telemetry.fullname" .root }}-{{ .component }}}
      {{- with .values.extraEnvFrom }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if .port }}
    ports:
      - {name: http-metrics, containerPort: {{ .port }}, protocol: TCP}
      {{- with .eventsPort }}
      - {name: events, containerPort: {{ . }}, protocol: TCP}
      {{- end }}
    {{- with .preStopSeconds }}
    # Until all that lead here have heard that this pod ends, new connections still come.
    lifecycle:
      preStop:
        sleep: {seconds: {{ . }}}
    {{- end }}
    {{- with .values.startupProbe }}
    startupProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .values.livenessProbe }}
    livenessProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .values.readinessProbe }}
    readinessProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- with .values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      {{- include "telemetry.mounts" . | nindent 6 }}
      {{- with .mounts }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with .values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- include "telemetry.volumes" . | nindent 2 }}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity | default .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints | default .spread }}
topologySpreadConstraints:
  {{- range . }}
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "telemetry.selectorLabels" $ | fromYaml)) }}
  - {{- toYaml (merge (dict) . $own) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
