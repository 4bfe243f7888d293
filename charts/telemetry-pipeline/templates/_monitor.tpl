{{/* A Service for the metrics, headless: nobody calls it, and it names each pod. */}}
{{- define "telemetry.metricsService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "telemetry.metadata" (dict "root" .root "component" .component "name" (printf "%s-%s" (include "telemetry.fullname" .root) .component)) | nindent 2 }}
spec:
  clusterIP: None
  # A pod that is not ready is what one wants to see.
  publishNotReadyAddresses: true
  selector:
    {{- include "telemetry.selectorLabels" (dict "root" .root "component" .component) | nindent 4 }}
  ports:
    - {name: http-metrics, port: {{ .port }}, targetPort: http-metrics, protocol: TCP}
{{- end -}}

{{/*
What ServiceMonitor and PodMonitor say of an endpoint: a dict of `root` and `values`. The operator gives every series
its namespace; the release is ours to give, and rules and dashboards tell pipelines apart by both.
*/}}
{{- define "telemetry.endpoint" -}}
- port: http-metrics
  path: /metrics
  interval: {{ .values.interval }}
  scrapeTimeout: {{ .values.scrapeTimeout }}
  relabelings:
    - {targetLabel: release, replacement: {{ .root.Release.Name | quote }}}
    {{- with .values.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .values.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A ServiceMonitor or PodMonitor: a dict of `root`, `component`, `kind`, `endpoints` and `values`. */}}
{{- define "telemetry.monitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ .kind }}
metadata:
  {{- include "telemetry.metadata" (dict "root" .root "component" .component "labels" .values.labels "name" (printf "%s-%s" (include "telemetry.fullname" .root) .component)) | nindent 2 }}
spec:
  namespaceSelector: {matchNames: [{{ .root.Release.Namespace | quote }}]}
  selector:
    matchLabels:
      {{- include "telemetry.selectorLabels" (dict "root" .root "component" .component) | nindent 6 }}
  {{ .endpoints }}:
    {{- include "telemetry.endpoint" . | nindent 4 }}
{{- end -}}
