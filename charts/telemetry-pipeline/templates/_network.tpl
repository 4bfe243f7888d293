{{/* The port of an address, its scheme's where it names none. */}}
{{- define "telemetry.otlpPort" -}}
{{- $url := urlParse . -}}
{{- $url.host | regexFind ":[0-9]+$" | trimPrefix ":" | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{/* What a service needs of the network: Redis, the database and the collector out, and in the metrics, and the events where they are sent to `eventsPort`, or are had from a broker at `mqttPort`. A dict of `root`, `component`, and where there are any `port`, `eventsPort`, `mqttPort` and `annotations`. A copy needs no Redis. */}}
{{- define "telemetry.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "telemetry.metadata" (dict "root" .root "component" .component "annotations" .annotations "name" (printf "%s-%s" (include "telemetry.fullname" .root) .component)) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "telemetry.selectorLabels" (dict "root" .root "component" .component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- $isScraped := and .port .root.Values.networkPolicy.metricsFrom }}
  {{- if or $isScraped .eventsPort }}
  ingress:
    {{- if $isScraped }}
    - ports: [{port: {{ .port }}, protocol: TCP}]
      from:
        {{- toYaml .root.Values.networkPolicy.metricsFrom | nindent 8 }}
    {{- end }}
    {{- with .eventsPort }}
    - ports: [{port: {{ . }}, protocol: TCP}]
      {{- with $.root.Values.networkPolicy.sendersFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
  {{- end }}
  egress:
    {{- $redis := include "telemetry.redis" .root | fromJson }}
    {{- if ne .component "copy" }}
    - ports: [{port: {{ $redis.port }}, protocol: TCP}]
      {{- if .root.Values.redis.enabled }}
      to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: redis
              app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
      {{- else if .root.Values.networkPolicy.externalRedisTo }}
      to:
        {{- toYaml .root.Values.networkPolicy.externalRedisTo | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if and (include "telemetry.database" .root | fromJson).used (ne .component "producer") }}
    - ports: [{port: {{ .root.Values.database.port }}, protocol: TCP}]
      {{- with .root.Values.networkPolicy.databaseTo }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if .mqttPort }}
    - ports: [{port: {{ .mqttPort }}, protocol: TCP}]
      {{- with .root.Values.networkPolicy.mqttTo }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- with .root.Values.otlp }}
    {{- if .endpoint }}
    - ports: [{port: {{ include "telemetry.otlpPort" .endpoint }}, protocol: TCP}]
      {{- with .to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- end }}
{{- end -}}
