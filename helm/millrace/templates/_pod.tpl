{{/*
The template of a pod. Takes a dict:
  root       what Helm gives a template
  component  hub or worker
  group      of workers; "" for the hub
  part       values of this pod alone: hubPod, or one of workers
  args       a list
  pipelines  whether files of pipelines are mounted: a worker gets them from the hub
  data       what may be written at /var/lib/millrace: "emptyDir", or "claim", which a StatefulSet makes
*/}}
{{- define "millrace.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $part := .part -}}
metadata:
  labels:
    {{- include "millrace.podSelector" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- /* Files are read at the start: pods with others must be new ones. */}}
    checksum/hub: {{ include (print $root.Template.BasePath "/hub-configmap.yaml") $root | sha256sum }}
    {{- if .pipelines }}
    checksum/pipelines: {{ include (print $root.Template.BasePath "/pipelines-configmap.yaml") $root | sha256sum }}
    {{- end }}
    {{- if $values.metrics.annotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ $values.hub.api.port | quote }}
    prometheus.io/path: /metrics
    {{- end }}
    {{- with merge dict ($part.podAnnotations | default dict) $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "millrace.serviceAccount" $root }}
  automountServiceAccountToken: false
  # A Service named millrace would otherwise put MILLRACE_PORT and more into the environment.
  enableServiceLinks: false
  # Tasks are given back and files closed within 10 s of SIGTERM.
  terminationGracePeriodSeconds: 20
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: millrace
      image: {{ include "millrace.image" $root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      # Relative paths of pipelines, and the data directory, are from here.
      workingDir: /var/lib/millrace
      {{- with $values.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ $values.hub.api.port }}
      {{- include "millrace.probes" $root | nindent 6 }}
      resources:
        {{- toYaml ($part.resources | default $values.hubPod.resources) | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: hub
          mountPath: /etc/millrace/hub
          readOnly: true
        {{- if .pipelines }}
        - name: pipelines
          mountPath: /etc/millrace/pipelines
          readOnly: true
        {{- end }}
        - name: data
          mountPath: /var/lib/millrace
        - name: tmp
          mountPath: /tmp
        {{- range $values.secretMounts }}
        - name: secret-{{ .name }}
          mountPath: {{ .mountPath }}
          readOnly: true
        {{- end }}
  volumes:
    {{- include "millrace.volumes" . | nindent 4 }}
  {{- with include "millrace.placement" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "millrace.podSelector" -}}
{{ include "millrace.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- with .group }}
millrace/workers: {{ . }}
{{- end }}
{{- end -}}

{{/* /livez only says that the event loop turns: a database or a Redis that is away is no reason to restart. */}}
{{- define "millrace.probes" -}}
startupProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{- define "millrace.volumes" -}}
- name: hub
  configMap:
    name: {{ include "millrace.fullname" .root }}-hub
{{- if .pipelines }}
- name: pipelines
  configMap:
    name: {{ include "millrace.pipelinesConfigMap" .root }}
{{- end }}
{{- if eq .data "emptyDir" }}
- name: data
  emptyDir: {}
{{- end }}
- name: tmp
  emptyDir: {}
{{- range .root.Values.secretMounts }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .secretName }}
    # 0440: readable by the group, which is fsGroup, for the files are root's.
    defaultMode: 288
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "millrace.placement" -}}
{{- $values := .root.Values -}}
{{- $part := .part -}}
{{- $placement := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" -}}
  {{- with get $part $key | default (get $values $key) -}}{{- $_ := set $placement $key . -}}{{- end -}}
{{- end -}}
{{- $selector := dict "matchLabels" (include "millrace.podSelector" . | fromYaml) -}}
{{- $spread := list -}}
{{- range $part.topologySpreadConstraints | default $values.topologySpreadConstraints -}}
  {{- /* Shallow: a selector of one's own is left as it is. */ -}}
  {{- $spread = append $spread (ternary . (set (deepCopy .) "labelSelector" $selector) (hasKey . "labelSelector")) -}}
{{- end -}}
{{- with $spread -}}{{- $_ := set $placement "topologySpreadConstraints" . -}}{{- end -}}
{{- with $placement -}}{{- toYaml . -}}{{- end -}}
{{- end -}}
