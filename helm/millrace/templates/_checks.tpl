{{/* What a schema cannot say, or not in words that help. Everything that is rendered includes it. */}}
{{- define "millrace.checks" -}}
{{- $hub := .Values.hub -}}
{{- $log := $hub.log | default dict -}}
{{- $queue := $hub.queue | default dict -}}
{{- $logType := $log.type | default "embedded" -}}
{{- $queueType := $queue.type | default "embedded" -}}
{{- if eq .Values.mode "fleet" -}}
  {{- if ne $logType "kafka" -}}
    {{- fail (printf "mode is fleet, and hub.log.type is %s: workers need hub.log.type kafka with hub.log.brokers. Without Kafka: mode single" $logType) -}}
  {{- end -}}
  {{- if ne $queueType "bullmq" -}}
    {{- fail (printf "mode is fleet, and hub.queue.type is %s: workers need hub.queue.type bullmq with hub.queue.url. Without Redis: mode single" $queueType) -}}
  {{- end -}}
  {{- include "millrace.checks.workers" . -}}
{{- else if ne $queueType "embedded" -}}
  {{- fail (printf "mode is single, and hub.queue.type is %s: one pod runs all tasks and takes none from a queue. For workers: mode fleet" $queueType) -}}
{{- end -}}
{{- if hasKey $hub "data_dir" -}}
  {{- fail "hub.data_dir: the chart mounts what may be written at /var/lib/millrace; leave it out" -}}
{{- end -}}
{{- if and .Values.pipelines .Values.existingPipelinesConfigMap -}}
  {{- fail "pipelines and existingPipelinesConfigMap: give one of them" -}}
{{- end -}}
{{- if not (or .Values.pipelines .Values.existingPipelinesConfigMap) -}}
  {{- fail "pipelines: give at least one, such as --set-file 'pipelines.shop\\.yaml=shop.yaml', or existingPipelinesConfigMap" -}}
{{- end -}}
{{- include "millrace.checks.secrets" . -}}
{{- end -}}

{{- define "millrace.checks.workers" -}}
{{- $seen := dict -}}
{{- $kinds := dict -}}
{{- range .Values.workers -}}
  {{- if hasKey $seen .name -}}
    {{- fail (printf "workers: two groups are named %s" .name) -}}
  {{- end -}}
  {{- $_ := set $seen .name true -}}
  {{- if not (and (hasKey . "replicas") (eq (int .replicas) 0)) -}}{{- $_ := set $kinds (.only | default "both") true -}}{{- end -}}
{{- end -}}
{{- range list "sources" "sinks" -}}
  {{- if not (or (hasKey $kinds "both") (hasKey $kinds .)) -}}
    {{- fail (printf "workers: no group takes %s: they would never run" .) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* ConfigMaps and pods are read by many more than Secrets are. A reference within a URL (user:${env:PASSWORD}@) is none. */}}
{{- define "millrace.checks.secrets" -}}
{{- $inUrl := "://[^/\\s:@\"']*:[^/\\s@$\"']+@" -}}
{{- $log := .Values.hub.log | default dict -}}
{{- $password := ($log.sasl | default dict).password | default "" -}}
{{- if and $password (not (regexMatch "^\\$\\{(env|file):[^}]+\\}$" $password)) -}}
  {{- fail "hub.log.sasl.password would stand in a ConfigMap: give ${env:NAME} or ${file:/path}, with env, envFrom or secretMounts" -}}
{{- end -}}
{{- if regexMatch $inUrl (toYaml .Values.hub) -}}
  {{- fail "hub: the password in a URL would stand in a ConfigMap: give ${env:NAME} or ${file:/path}, with env, envFrom or secretMounts" -}}
{{- end -}}
{{- range $name, $text := .Values.pipelines -}}
  {{- if regexMatch $inUrl $text -}}
    {{- fail (printf "pipelines.%s: the password in a URL would stand in a ConfigMap: give ${env:NAME} or ${file:/path}, with env, envFrom or secretMounts" $name) -}}
  {{- end -}}
{{- end -}}
{{- range .Values.env -}}
  {{- if regexMatch $inUrl (.value | default "") -}}
    {{- fail (printf "env %s: the password in a URL would stand in the pods: give valueFrom.secretKeyRef" .name) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
