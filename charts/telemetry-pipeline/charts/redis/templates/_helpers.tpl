{{/* The parent chart includes this one too, so that both know where Redis is. */}}
{{- define "redis.fullname" -}}
{{- .Values.fullnameOverride | default (printf "%s-%s" (.Release.Name | trunc 40 | trimSuffix "-") (default "redis" .Values.nameOverride)) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "redis.selectorLabels" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: redis
{{- end -}}

{{/* All labels: a dict of `root`, and `labels` of one's own. Each is there once, and selectors' stand above all. */}}
{{- define "redis.labels" -}}
{{- $own := include "redis.selectorLabels" .root | fromYaml -}}
{{- $version := regexReplaceAll "[^-._a-zA-Z0-9].*" (.root.Values.image.tag | default .root.Chart.AppVersion) "" | trunc 63 -}}
{{- $chart := dict "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) "app.kubernetes.io/version" $version
    "app.kubernetes.io/part-of" "telemetry-pipeline" "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge (dict) $own (default (dict) .labels) .root.Values.commonLabels $chart | toYaml -}}
{{- end -}}

{{/* The head of an object: a dict of `root`, and `suffix` of the name and `annotations` where there are any. */}}
{{- define "redis.metadata" -}}
name: {{ include "redis.fullname" .root }}{{ .suffix }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "redis.labels" . | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "redis.secretName" -}}
{{- tpl .Values.auth.existingSecret . | default (include "redis.fullname" .) -}}
{{- end -}}

{{- define "redis.image" -}}
{{- $registry := .Values.image.registry | default (.Values.global).imageRegistry | default "" -}}
{{- $name := ternary (printf "%s/%s" $registry .Values.image.repository) .Values.image.repository (ne $registry "") -}}
{{- ternary (printf "%s@%s" $name .Values.image.digest) (printf "%s:%s" $name .Values.image.tag) (ne .Values.image.digest "") -}}
{{- end -}}

{{/* redis.conf. */}}
{{- define "redis.conf" -}}
port {{ .Values.port }}
# Whoever gets through the NetworkPolicy still has to be one of the users below.
bind * -::*
protected-mode no
aclfile /run/redis/users.acl
dir /data
appendonly yes
appendfsync {{ .Values.appendfsync }}
# The append-only file is the one copy; snapshots beside it would only cost memory.
save ""
maxmemory {{ .Values.maxmemory }}
# An evicted stream is lost events. Writes are refused instead, and producers wait.
maxmemory-policy noeviction
tcp-keepalive 60
{{- with .Values.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}

{{/*
What the keys of the stream begin with, so that they are in one slot of a cluster (services/contract/streams.py). Names that
have a brace and no hash tag are refused: theirs is found by a search.
*/}}
{{- define "redis.prefix" -}}
{{- if regexMatch "^[^{]*[{][^}]+[}]" . -}}
{{- . -}}
{{- else if contains "}" . -}}
{{- fail (printf "redis.auth.stream=%s: leave } out of the name, or write a hash tag: {tag}" .) -}}
{{- else -}}
{{ "{" }}{{ . }}{{ "}" }}
{{- end -}}
{{- end -}}

{{/*
What each user may do, and on which keys (services/contract/streams.py). A script's own commands count as well.
`%R~` is read only.
*/}}
{{- define "redis.acl" -}}
{{- $stream := .Values.auth.stream -}}
{{- $prefix := include "redis.prefix" $stream -}}
{{- $connect := "+ping +hello +auth +select +client|setname" -}}
{{- $script := "+eval +evalsha +script|load +multi +exec +exists" -}}
{{- $publish := "+xadd +xlen +hget +hmget +hgetall +hset +hincrby +scard +sadd +strlen +append +get +set" -}}
{{- $drop := "+xinfo|stream +xinfo|groups +xpending +xrange +xtrim" -}}
{{- $consume := "+xreadgroup +xack +xautoclaim +xpending +xgroup|create +xgroup|delconsumer +xinfo +xlen +xrange +xtrim +info" -}}
{{- $audit := "+smembers +scard +hget +hmget +hgetall +hscan +strlen +getrange +get +exists" -}}
producer resetkeys ~{{ $stream }} ~{{ $prefix }}:* -@all {{ $connect }} {{ $script }} {{ $publish }} {{ $drop }}
consumer resetkeys ~{{ $stream }} -@all {{ $connect }} {{ $script }} {{ $consume }} (~{{ $prefix }}:dlq +xadd +xlen +xrange) (%R~{{ $prefix }}:* %R~{{ $stream }}:dlq* {{ $audit }} +xlen +xrange) (~{{ $prefix }}:observer +eval +evalsha +get +set) (~{{ $prefix }}:audit +hset)
operator resetkeys ~{{ $stream }} ~{{ $stream }}:dlq* ~{{ $prefix }}:* -@all {{ $connect }} {{ $script }} {{ $publish }} {{ $consume }} {{ $audit }} +xdel
observer resetkeys %R~{{ $stream }} -@all {{ $connect }} +info +xinfo +xpending +xlen +exists +type
{{- end -}}
