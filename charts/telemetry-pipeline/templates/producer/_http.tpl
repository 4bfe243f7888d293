{{/* What takes events by HTTP (producer.mode http). Each takes the root. */}}

{{/* What leads to it: the Service, the Ingress, and what is made for it. */}}
{{- define "telemetry.httpName" -}}
{{ include "telemetry.fullname" . }}-http
{{- end -}}

{{/* The files that it reads, as telemetry.sentFiles gives them. */}}
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

{{/* The longest time of a request, in seconds: until it is read, and until it is in the stream. */}}
{{- define "telemetry.longestRequestS" -}}
{{- $settings := .Values.producer.http.settings -}}
{{- addf ($settings.httpReadTimeoutS | float64) ($settings.httpWaitS | float64) -}}
{{- end -}}

{{- define "telemetry.httpSettings" }}
{{- if .Values.producer.http.anonymous }}
ANONYMOUS: "true"
{{- end }}
{{- end -}}
