{{/* As telemetry.ownRedis in the parent chart, which knows it also where there is no subchart. */}}
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
{{- ternary (printf "%s@%s" $name .Values.image.digest) (printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion)) (ne .Values.image.digest "") -}}
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
What the keys of the stream begin with, so that they are in one slot of a cluster (services/brokers/redis/keys.py). Names that
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

{{/* The users and their rules, a line each, from files/users. */}}
{{- define "redis.acl" -}}
{{- $stream := .Values.auth.stream -}}
{{- $lines := regexReplaceAll "(?m)^ *#.*\n" (.Files.Get "files/users") "" -}}
{{- $users := regexReplaceAll "\n +" $lines " " -}}
{{- $wanted := dict "drop_oldest" (eq (default "block" .Values.auth.streamFull) "drop_oldest") "hash_tag" (contains "{" $stream) -}}
{{- range $word, $is := $wanted -}}
{{- $users = ternary ($users | replace (printf " %s(" $word) " (") (regexReplaceAll (printf " %s\\([^)]*\\)" $word) $users "") $is -}}
{{- end -}}
{{- regexReplaceAll "\n\n+" $users "\n" | replace "PREFIX" (include "redis.prefix" $stream) | replace "STREAM" $stream | trim -}}
{{- end -}}
