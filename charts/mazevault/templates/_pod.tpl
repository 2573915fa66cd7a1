{{/* What all pods share: nobody is root, nothing is written, nothing is inherited. */}}
{{- define "mazevault.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
# Files of Secrets belong to root and this group, which only these processes have.
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "mazevault.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods may run, of `dict "context" $ "component" NAME "values" VALUES`. */}}
{{- define "mazevault.scheduling" -}}
{{- $pod := mergeOverwrite (deepCopy .context.Values.pod) (default dict .values.pod | deepCopy) -}}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.topologyKeys }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "mazevault.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
terminationGracePeriodSeconds: {{ $pod.terminationGracePeriodSeconds }}
{{- end -}}

{{/*
One of our programs, of `dict "context" $ "component" NAME "name" CONTAINER "program" FILE "values" VALUES "ports" PORTS "health" PORT "volumes" PREFIX`.
*/}}
{{- define "mazevault.container" -}}
{{- $ := .context -}}
- name: {{ .name }}
  image: {{ include "mazevault.image" (dict "image" $.Values.image "tag" $.Chart.AppVersion) }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  # Behind the image's entry point, which turns off core dumps: they would hold every key that is in memory.
  args: [{{ .program }}, --config, /etc/mazevault/settings/settings.yaml]
  {{- if ne .component "ocsp" }}
  {{- with include "mazevault.env" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- end }}
  ports:
    {{- range $name, $port := .ports }}
    - name: {{ $name }}
      containerPort: {{ $port }}
    {{- end }}
  startupProbe:
    httpGet: {path: /healthz, port: {{ .health }}}
    periodSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /healthz, port: {{ .health }}}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: {{ .health }}}
    periodSeconds: 5
    timeoutSeconds: 5
  {{- if ne .component "operator" }}
  lifecycle:
    preStop:
      # Until nobody sends requests here any more.
      sleep: {seconds: 5}
  {{- end }}
  # Why it could not start, for `mazevault doctor`.
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "mazevault.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .values.resources | nindent 4 }}
  volumeMounts:
    - name: {{ .volumes }}settings
      mountPath: /etc/mazevault/settings
      readOnly: true
    {{- if include "mazevault.sources" . | trim }}
    - name: {{ .volumes }}secrets
      mountPath: /etc/mazevault/secrets
      readOnly: true
    {{- end }}
    {{- if ne .component "ocsp" }}
    {{- if $.Values.secretProviderClass.enabled }}
    - name: vault
      mountPath: /etc/mazevault/vault
      readOnly: true
    {{- end }}
    {{- with $.Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* What is set by hand goes before the rest. */}}
{{- define "mazevault.env" -}}
{{- $ := .context -}}
{{- if eq .component "gateway" }}
{{- if not (include "mazevault.inEnv" (dict "context" $ "names" (list "GATEWAY_BOOTSTRAP_TOKEN" "MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN" "MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_FILE" "MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_SECRET"))) }}
{{- if $.Values.gateway.bootstrapToken.secretName }}
# Here, so that `env | grep GATEWAY_BOOTSTRAP_TOKEN` says where the token comes from.
- name: MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_FILE
  value: /etc/mazevault/secrets/bootstrap-token
{{- else }}
{{- with dig "gateway" "bootstrapTokenSecret" "" $.Values.config }}
- name: MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_SECRET
  value: {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $.Values.secretProviderClass.enabled }}
{{- range $name, $_ := $.Values.secretProviderClass.env }}
{{- if not (include "mazevault.inEnv" (dict "context" $ "names" (list $name))) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ include "mazevault.fullname" $ }}-vault
      key: {{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- with $.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Volumes of a program, of `dict "context" $ "component" NAME "volumes" PREFIX`. */}}
{{- define "mazevault.volumes" -}}
- name: {{ .volumes }}settings
  configMap:
    name: {{ include "mazevault.name" . }}
{{- with include "mazevault.sources" . | trim }}
- name: {{ $.volumes }}secrets
  projected:
    # With the group of fsGroup: readable by these processes, and by nobody else.
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Of `dict "context" $ "component" NAME`; nothing where all comes from a Key Vault. */}}
{{- define "mazevault.sources" -}}
{{- include (printf "mazevault.sources.%s" (eq .component "ocsp" | ternary "ocsp" "operator")) .context -}}
{{- end -}}

{{- define "mazevault.sources.operator" -}}
{{- $config := .Values.config -}}
{{- $vault := .Values.secretProviderClass -}}
{{- $items := dict -}}
{{- with .Values.database }}
{{- if not (dig "database" "passwordSecret" "" $config) }}{{ $_ := set $items .passwordKey "database/password" }}{{ end }}
{{- if not (and $vault.enabled $vault.files.databaseCa) }}{{ $_ := set $items .caKey "database/ca.crt" }}{{ end }}
{{- if $items }}
{{ include "mazevault.source" (dict "name" .secretName "items" $items) }}
{{- end }}
{{- end }}
{{- with .Values.rootKey }}
{{- if .secretName }}
{{ include "mazevault.source" (dict "name" .secretName "items" (dict .key "root.key")) }}
{{- end }}
{{- if .previous.secretName }}
{{ include "mazevault.source" (dict "name" .previous.secretName "items" (dict .previous.key "previous-root.key")) }}
{{- end }}
{{- end }}
{{- with .Values.redis }}
{{- if .secretName }}
{{- $items := dict }}
{{- if not (dig "redis" "passwordSecret" "" $config) }}{{ $_ := set $items .passwordKey "redis/password" }}{{ end }}
{{- if and .caKey (not (and $vault.enabled $vault.files.redisCa)) }}{{ $_ := set $items .caKey "redis/ca.crt" }}{{ end }}
{{- if $items }}
{{ include "mazevault.source" (dict "name" .secretName "items" $items) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.rest }}
{{- if not (and $vault.enabled $vault.files.restTls) }}
{{ include "mazevault.source" (dict "name" .tls.secretName "items" (dict "tls.crt" "rest/tls.crt" "tls.key" "rest/tls.key")) }}
{{- end }}
{{- if .clientCa.secretName }}
{{- $items := dict .clientCa.caKey "rest/client-ca.crt" }}
{{- with .clientCa.crlKey }}{{ $_ := set $items . "rest/client.crl" }}{{ end }}
{{ include "mazevault.source" (dict "name" .clientCa.secretName "items" $items) }}
{{- end }}
{{- if .eventTokens.secretName }}
{{ include "mazevault.source" (dict "name" .eventTokens.secretName "items" (dict .eventTokens.key "rest/event-tokens")) }}
{{- end }}
{{- end }}
{{- if eq .Values.mode "gateway" }}
{{- with .Values.gateway }}
{{- if .bootstrapToken.secretName }}
{{ include "mazevault.source" (dict "name" .bootstrapToken.secretName "items" (dict .bootstrapToken.key "bootstrap-token") "optional" true) }}
{{- end }}
{{- if .primaryCa.configMapName }}
{{ include "mazevault.source" (dict "kind" "configMap" "name" .primaryCa.configMapName "items" (dict .primaryCa.key "primary-ca.crt")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mazevault.sources.ocsp" -}}
{{ include "mazevault.source" (dict "name" .Values.database.secretName "items" (dict .Values.database.caKey "database/ca.crt")) }}
{{ include "mazevault.source" (dict "name" .Values.ocsp.database.secretName "items" (dict .Values.ocsp.database.passwordKey "database/password")) }}
{{- end -}}

{{- define "mazevault.source" -}}
- {{ default "secret" .kind }}:
    name: {{ .name }}
    {{- if .optional }}
    optional: true
    {{- end }}
    items:
      {{- range $key, $path := .items }}
      - key: {{ $key }}
        path: {{ $path }}
      {{- end }}
{{- end -}}
