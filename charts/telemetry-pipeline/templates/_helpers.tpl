{{/* Names and labels. */}}

{{- define "telemetry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release names everything: `demo` gives demo-producer and demo-consumer. 40 characters leave room for what is appended. */}}
{{- define "telemetry.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "telemetry.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
Gives each key that has no value its default: a dict of `values` and `defaults`, both maps. Nothing is added within a map whose
keys are Kubernetes' own, or within `settings`, where null leaves a setting to the service; and a probe or a fallback that is
null is none.
*/}}
{{- define "telemetry.complete" -}}
{{- $values := .values -}}
{{- $whole := list "settings" "resources" "strategy" "podSecurityContext" "securityContext" "labels" -}}
{{- range $key, $default := .defaults -}}
{{- $value := index $values $key -}}
{{- if and (kindIs "invalid" $value) (has $key (list "startupProbe" "livenessProbe" "readinessProbe" "fallback")) -}}
{{- else if kindIs "invalid" $value -}}
{{- $_ := set $values $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) (not (has $key $whole)) -}}
{{- include "telemetry.complete" (dict "values" $value "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes keys without a value out of a map, and of the maps in it: Kubernetes would read a limit that is null as 0. */}}
{{- define "telemetry.withoutNulls" -}}
{{- $values := . -}}
{{- range $key, $value := $values -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $values $key -}}
{{- else if kindIs "map" $value -}}
{{- include "telemetry.withoutNulls" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes a dict of `root`, and `component` where there is one. These never change in a release. */}}
{{- define "telemetry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "telemetry.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* All labels: beside `root` and `component`, `labels` of one's own. Each is there once, and selectors' stand above all. */}}
{{- define "telemetry.labels" -}}
{{- $own := include "telemetry.selectorLabels" . | fromYaml -}}
{{- $chart := dict "helm.sh/chart" (include "telemetry.chart" .root) "app.kubernetes.io/version" .root.Chart.AppVersion
    "app.kubernetes.io/part-of" "telemetry-pipeline" "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge (dict) $own (default (dict) .labels) .root.Values.commonLabels $chart | toYaml -}}
{{- end -}}

{{/* The head of an object: a dict of `root`, `name`, and, where there are any, `component`, `labels`, `annotations`. */}}
{{- define "telemetry.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "telemetry.labels" . | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "telemetry.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "telemetry.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image: a dict of `root` and `image`. A digest stands for the tag; a tag may also hold one itself: tag@sha256:... */}}
{{- define "telemetry.image" -}}
{{- $registry := .image.registry | default .root.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* A value as a setting's text. YAML's numbers arrive as floats, and 1000000 would be written as 1e+06. */}}
{{- define "telemetry.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* The Redis that is used: host, port, database, tls, ca, secret, and users and keys by role. As JSON. */}}
{{- define "telemetry.redis" -}}
{{- $users := dict "producer" "producer" "consumer" "consumer" "operator" "operator" "observer" "observer" -}}
{{- if .Values.redis.enabled -}}
{{- $name := include "telemetry.ownRedis" . -}}
{{- dict "host" $name "port" (.Values.redis.port | default 6379) "database" 0 "tls" false "caSecret" "" "certSecret" ""
    "secret" (tpl .Values.redis.auth.existingSecret $ | default $name) "users" $users "keys" .Values.redis.auth.keys | toJson -}}
{{- else -}}
{{- $external := .Values.externalRedis -}}
{{- $given := $external.usernames -}}
{{- $users = dict "producer" $given.producer "consumer" $given.consumer
    "operator" ($given.operator | default $given.consumer) "observer" ($given.observer | default $given.consumer) -}}
{{- $keys := dict "producer" $external.keys.producer "consumer" $external.keys.consumer
    "operator" ($external.keys.operator | default $external.keys.consumer)
    "observer" ($external.keys.observer | default $external.keys.consumer) -}}
{{- dict "host" (tpl $external.host $ | trimPrefix "[" | trimSuffix "]") "port" $external.port "database" $external.database "tls" $external.tls.enabled
    "caSecret" $external.tls.caSecret "caKey" $external.tls.caKey
    "certSecret" $external.tls.certSecret "certKey" $external.tls.certKey "privateKey" $external.tls.privateKey
    "secret" (tpl $external.existingSecret $) "users" $users "keys" $keys | toJson -}}
{{- end -}}
{{- end -}}

{{/*
The PostgreSQL that is used: host, port, name, user, secret, keys, sslmode, and what there is of certificates. As JSON; `used` is
false with SQLite. What is empty of host, name and user is in the Secret. The system's authorities are a file of the image: psycopg
brings an OpenSSL of its own, which looks for `system` where there is nothing.
*/}}
{{- define "telemetry.database" -}}
{{- $given := .Values.database -}}
{{- $secret := tpl $given.existingSecret . -}}
{{- $host := tpl $given.host . | trimPrefix "[" | trimSuffix "]" -}}
{{- $ca := tpl $given.caSecret . -}}
{{- $sslmode := $given.sslmode | default (ternary "verify-full" "prefer" (ne $ca "")) -}}
{{- $authority := ternary "/etc/telemetry/database-ca/ca.crt" (ternary "/etc/ssl/certs/ca-certificates.crt" "" (eq $sslmode "verify-full")) (ne $ca "") -}}
{{- dict "used" (or (ne $host "") (ne $secret "")) "host" $host "port" $given.port "name" $given.name "user" $given.user
    "secret" $secret "keys" $given.keys "sslmode" $sslmode "authority" $authority "caSecret" $ca "caKey" $given.caKey
    "certSecret" (tpl $given.certSecret .) "certKey" $given.certKey "privateKey" $given.privateKey | toJson -}}
{{- end -}}

{{/* Those of the database's variables that the Secret has: what is not written among the values. */}}
{{- define "telemetry.databaseEnv" -}}
{{- $database := include "telemetry.database" . | fromJson -}}
{{- if $database.secret -}}
{{- range $variable, $key := dict "PGHOST" "host" "PGDATABASE" "name" "PGUSER" "user" -}}
{{- if not (get $database $key) }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $database.secret | quote }}, key: {{ get $database.keys $key | quote }}}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the Redis of this release is called, or was. */}}
{{- define "telemetry.ownRedis" -}}
{{- $name := .Values.redis.nameOverride | default "redis" -}}
{{- .Values.redis.fullnameOverride | default (printf "%s-%s" (.Release.Name | trunc 40 | trimSuffix "-") $name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* The longest time of a batch, in milliseconds: every retry waits for the lock or for the database, and the ack for Redis. */}}
{{- define "telemetry.longestBatchMs" -}}
{{- $settings := .Values.consumer.settings -}}
{{- $retries := $settings.maxRetries | default 0 | float64 -}}
{{- $one := $settings.sqliteBusyTimeoutMs | float64 -}}
{{- if (include "telemetry.database" . | fromJson).used -}}
{{- $one = mulf (addf ($settings.databaseTimeoutS | float64) 1) 1000 -}}
{{- end -}}
{{- $lock := mulf (addf $retries 1) $one -}}
{{- $pauses := mulf ($settings.retryBackoffS | float64) 1000 (divf (mulf $retries (addf $retries 1)) 2) -}}
{{- addf $lock $pauses (mulf (.Values.settings.redisTimeoutS | float64) 1000) -}}
{{- end -}}

{{/*
Where a pod may run that opens SQLite's database: beside all others that do. SQLite's locks work on one host, and a ReadWriteOnce
volume is on one node. Audits are among them, so the first of them may be the only one: no consumer has to run.
*/}}
{{- define "telemetry.besideDatabase" -}}
topologyKey: kubernetes.io/hostname
labelSelector:
  matchLabels:
    {{- include "telemetry.selectorLabels" (dict "root" .) | nindent 4 }}
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: [consumer, audit, test]}
{{- end -}}

{{/* How many consumers may be away at once. */}}
{{- define "telemetry.awayAtOnce" -}}
{{- $used := (include "telemetry.database" . | fromJson).used -}}
{{- .Values.consumer.podDisruptionBudget.maxUnavailable | default (ternary "1" "100%" $used) -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number, to compare two of them. The subchart uses it too. */}}
{{- define "telemetry.quantity" -}}
{{- $exponents := dict "" 0 "k" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 "Ki" 1 "Mi" 2 "Gi" 3 "Ti" 4 "Pi" 5 "Ei" 6 -}}
{{- $unit := regexFind "[a-zA-Z]*$" . -}}
{{- $number := trimSuffix $unit . | float64 -}}
{{- range until (int (get $exponents $unit)) -}}
{{- $number = mulf $number (ternary 1024 1000 (hasSuffix "i" $unit)) -}}
{{- end -}}
{{- printf "%f" $number -}}
{{- end -}}

{{/* The claim with the database. */}}
{{- define "telemetry.claimName" -}}
{{- tpl .Values.consumer.persistence.existingClaim . | default (printf "%s-consumer-data" (include "telemetry.fullname" .)) -}}
{{- end -}}

{{- define "telemetry.storageClass" -}}
{{- $class := .class | default .root.Values.global.storageClass -}}
{{- if eq $class "-" }}
storageClassName: ""
{{- else if $class }}
storageClassName: {{ $class }}
{{- end }}
{{- end -}}
