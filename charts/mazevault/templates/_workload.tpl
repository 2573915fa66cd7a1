{{/*
Deployment of a component, of `dict "context" $ "component" NAME "values" VALUES "account" NAME "annotations" OF-THE-ACCOUNT "containers" LIST`.
A component that is not told an account speaks to no API server, and gets no token for it.
*/}}
{{- define "mazevault.workload" -}}
{{- $ := .context -}}
{{- $values := .values -}}
{{- $pod := mergeOverwrite (deepCopy $.Values.pod) (default dict $values.pod | deepCopy) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "mazevault.name" . }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "mazevault.labels" . | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  selector:
    matchLabels:
      {{- include "mazevault.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "mazevault.selectorLabels" . | nindent 8 }}
        {{- if get (default dict .annotations) "azure.workload.identity/client-id" }}
        azure.workload.identity/use: "true"
        {{- end }}
        {{- with $pod.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Settings are read at the start.
        checksum/settings: {{ include "mazevault.settings" . | sha256sum }}
        {{- if .sidecar }}
        checksum/ocsp-settings: {{ include "mazevault.settings" (dict "context" $ "component" "ocsp") | sha256sum }}
        {{- end }}
        {{- with $pod.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with .account }}
      serviceAccountName: {{ . }}
      {{- end }}
      automountServiceAccountToken: {{ ne (default "" .account) "" }}
      enableServiceLinks: false
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "mazevault.podSecurity" 65532 | nindent 8 }}
      {{- include "mazevault.scheduling" . | trim | nindent 6 }}
      containers:
        {{- range .containers }}
        {{- include "mazevault.container" (mergeOverwrite (dict "context" $ "volumes" "") .) | nindent 8 }}
        {{- end }}
      volumes:
        {{- range .containers }}
        {{- include "mazevault.volumes" (mergeOverwrite (dict "context" $ "volumes" "") .) | nindent 8 }}
        {{- end }}
        {{- if and .account $.Values.secretProviderClass.enabled }}
        - name: vault
          csi:
            driver: secrets-store.csi.k8s.io
            readOnly: true
            volumeAttributes:
              secretProviderClass: {{ include "mazevault.fullname" $ }}
        {{- end }}
        {{- if .account }}
        {{- with $.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
{{- end -}}
