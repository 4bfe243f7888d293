{{/* What takes events by HTTP (producer.mode http). Each takes the root. */}}

{{/* What leads to it: the Service, the Ingress, and what is made for it. */}}
{{- define "telemetry.httpName" -}}
{{ include "telemetry.fullname" . }}-http
{{- end -}}

{{/*
The files that it reads, each of a Secret or a ConfigMap: `setting` that names the file, `volume`, `mount`, `source` and `items`. As
JSON, below `files`.
*/}}
{{- define "telemetry.httpFiles" -}}
{{- $http := .Values.producer.http -}}
{{- $name := include "telemetry.httpName" . -}}
{{- $files := list -}}
{{- if or $http.tokens $http.tokensSecret -}}
{{- $secret := tpl $http.tokensSecret . | default (printf "%s-tokens" $name) -}}
{{- $key := empty $http.tokensSecret | ternary "tokens.toml" $http.tokensKey -}}
{{- $files = append $files (dict "volume" "http-tokens" "secret" $secret "items" (dict $key "tokens.toml")
    "settings" (dict "HTTP_TOKENS_FILE" "tokens.toml")) -}}
{{- end -}}
{{- with tpl $http.tlsSecret . -}}
{{- $files = append $files (dict "volume" "http-cert" "secret" . "items" (dict $http.certKey "tls.crt" $http.privateKey "tls.key")
    "settings" (dict "HTTP_CERT_FILE" "tls.crt" "HTTP_KEY_FILE" "tls.key")) -}}
{{- end -}}
{{- with tpl $http.clientCaSecret . -}}
{{- $files = append $files (dict "volume" "http-client-ca" "secret" . "items" (dict $http.clientCaKey "ca.crt")
    "settings" (dict "HTTP_CLIENT_CA_FILE" "ca.crt")) -}}
{{- end -}}
{{- range $prefix, $setting := dict "mapping" "HTTP_MAPPING_FILE" "influxMapping" "INFLUX_MAPPING_FILE" -}}
{{- $given := tpl (get $http (printf "%sConfigMap" $prefix)) $ -}}
{{- if or $given (get $http $prefix) -}}
{{- $own := printf "%s-%s" $name (kebabcase $prefix) -}}
{{- $key := empty $given | ternary "mapping.toml" (get $http (printf "%sKey" $prefix)) -}}
{{- $files = append $files (dict "volume" (printf "http-%s" (kebabcase $prefix)) "configMap" ($given | default $own)
    "items" (dict $key "mapping.toml") "settings" (dict $setting "mapping.toml")) -}}
{{- end -}}
{{- end -}}
{{- dict "files" $files | toJson -}}
{{- end -}}

{{/* The settings that the chart sets itself. */}}
{{- define "telemetry.httpSettings" }}
PRODUCER_MODE: http
{{- if .Values.producer.http.anonymous }}
ANONYMOUS: "true"
{{- end }}
{{- range (include "telemetry.httpFiles" . | fromJson).files }}
{{- $folder := .volume }}
{{- range $setting, $file := .settings }}
{{ $setting }}: /etc/telemetry/{{ $folder }}/{{ $file }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volumes and mounts of these files, as JSON. A changed token or certificate is read again; a changed mapping is another pod. */}}
{{- define "telemetry.httpVolumes" -}}
{{- $volumes := list -}}
{{- $mounts := list -}}
{{- range (include "telemetry.httpFiles" . | fromJson).files -}}
{{- $items := list -}}
{{- range $key, $path := .items -}}
{{- $items = append $items (dict "key" $key "path" $path) -}}
{{- end -}}
{{- if .secret -}}
{{- $volumes = append $volumes (dict "name" .volume "secret" (dict "secretName" .secret "defaultMode" 0440 "items" $items)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" .volume "configMap" (dict "name" .configMap "items" $items)) -}}
{{- end -}}
{{- $mounts = append $mounts (dict "name" .volume "mountPath" (printf "/etc/telemetry/%s" .volume) "readOnly" true) -}}
{{- end -}}
{{- dict "volumes" $volumes "mounts" $mounts | toJson -}}
{{- end -}}

{{/* The longest time of a request, in seconds: until it is read, and until it is in the stream. */}}
{{- define "telemetry.longestRequestS" -}}
{{- $settings := .Values.producer.http.settings -}}
{{- addf ($settings.httpReadTimeoutS | float64) ($settings.httpWaitS | float64) -}}
{{- end -}}
