{{/* What takes events from an MQTT broker (producer.mode mqtt). Each takes the root. */}}

{{/* The files that it reads, as telemetry.sentFiles gives them. */}}
{{- define "telemetry.mqttFiles" -}}
{{- $mqtt := .Values.producer.mqtt -}}
{{- $files := list -}}
{{- with tpl $mqtt.userSecret . -}}
{{- $files = append $files (dict "volume" "mqtt-user" "secret" . "items" (dict $mqtt.usernameKey "username" $mqtt.passwordKey "password")
    "settings" (dict "MQTT_USERNAME_FILE" "username" "MQTT_PASSWORD_FILE" "password")) -}}
{{- end -}}
{{- with tpl $mqtt.caSecret . -}}
{{- $files = append $files (dict "volume" "mqtt-ca" "secret" . "items" (dict $mqtt.caKey "ca.crt")
    "settings" (dict "MQTT_CA_FILE" "ca.crt")) -}}
{{- end -}}
{{- with tpl $mqtt.certSecret . -}}
{{- $files = append $files (dict "volume" "mqtt-cert" "secret" . "items" (dict $mqtt.certKey "tls.crt" $mqtt.privateKey "tls.key")
    "settings" (dict "MQTT_CERT_FILE" "tls.crt" "MQTT_KEY_FILE" "tls.key")) -}}
{{- end -}}
{{- $given := tpl $mqtt.mappingConfigMap . -}}
{{- if or $given $mqtt.mapping -}}
{{- $key := empty $given | ternary "mapping.toml" $mqtt.mappingKey -}}
{{- $files = append $files (dict "volume" "mqtt-mapping" "configMap" ($given | default (include "telemetry.mqttMappingName" .))
    "items" (dict $key "mapping.toml") "settings" (dict "MQTT_MAPPING_FILE" "mapping.toml")) -}}
{{- end -}}
{{- dict "files" $files | toJson -}}
{{- end -}}

{{/* The ConfigMap of a mapping that stands among the values. */}}
{{- define "telemetry.mqttMappingName" -}}
{{ include "telemetry.fullname" . }}-mqtt-mapping
{{- end -}}

{{/* Pods of one release share its messages, and no other release does. */}}
{{- define "telemetry.mqttSettings" }}
{{- $mqtt := .Values.producer.mqtt }}
MQTT_URL: {{ tpl $mqtt.url . | quote }}
MQTT_TOPICS: {{ join "," $mqtt.topics | quote }}
{{- if $mqtt.shared }}
MQTT_SHARE: {{ printf "%s.%s" .Release.Namespace (include "telemetry.fullname" .) | quote }}
{{- end }}
{{- end -}}

{{/* The port of the broker. */}}
{{- define "telemetry.mqttPort" -}}
{{- $url := tpl .Values.producer.mqtt.url . -}}
{{- regexFind ":[0-9]+$" $url | trimPrefix ":" | default (hasPrefix "mqtts:" $url | ternary "8883" "1883") -}}
{{- end -}}
