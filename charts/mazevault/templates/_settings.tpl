{{/*
Settings of the programs: what the values say, and `config` over it. Files stand where _pod.tpl mounts them.
*/}}
{{- define "mazevault.settings.operator" -}}
{{- $ := .context -}}
{{- $values := $.Values -}}
{{- $config := $values.config -}}
{{- $secrets := "/etc/mazevault/secrets" -}}
{{- $vault := $values.secretProviderClass -}}
mode: {{ $values.mode }}
database:
  {{- with include "mazevault.databaseHost" $ }}
  host: {{ . | quote }}
  {{- end }}
  port: {{ $values.database.port }}
  name: {{ $values.database.name | quote }}
  user: {{ $values.database.user | quote }}
  {{- if not (dig "database" "passwordSecret" "" $config) }}
  passwordFile: {{ $secrets }}/database/password
  {{- end }}
  caFile: {{ if and $vault.enabled $vault.files.databaseCa }}/etc/mazevault/vault/database-ca{{ else }}{{ $secrets }}/database/ca.crt{{ end }}
{{- if or $values.rootKey.secretName $values.rootKey.previous.secretName }}
keys:
  {{- if $values.rootKey.secretName }}
  file: {{ $secrets }}/root.key
  {{- end }}
  {{- if $values.rootKey.previous.secretName }}
  previous:
    file: {{ $secrets }}/previous-root.key
  {{- end }}
{{- end }}
{{- if and $vault.enabled (not (dig "operationalSecrets" "vaultUrl" "" $config)) (include "mazevault.vaultEntries" $) }}
operationalSecrets:
  vaultUrl: https://{{ $vault.parameters.keyvaultName }}.vault.azure.net/
{{- end }}
{{- with $vault.parameters.clientID }}
azure:
  managedIdentityClientId: {{ . | quote }}
{{- end }}
{{- with $values.redis }}
{{- if .url }}
redis:
  url: {{ .url | quote }}
  {{- if and .secretName (not (dig "redis" "passwordSecret" "" $config)) }}
  passwordFile: {{ $secrets }}/redis/password
  {{- end }}
  {{- if and $vault.enabled $vault.files.redisCa }}
  caFile: /etc/mazevault/vault/redis-ca
  {{- else if and .secretName .caKey }}
  caFile: {{ $secrets }}/redis/ca.crt
  {{- end }}
{{- end }}
{{- end }}
rest:
  {{- if eq .component "operator" }}
  # Of its leader come keys and the first admin of REST, so it has it too; others serve it.
  host: 127.0.0.1
  {{- end }}
  {{- if and $vault.enabled $vault.files.restTls }}
  certFile: /etc/mazevault/vault/rest-tls
  keyFile: /etc/mazevault/vault/rest-tls
  {{- else }}
  certFile: {{ $secrets }}/rest/tls.crt
  keyFile: {{ $secrets }}/rest/tls.key
  {{- end }}
  {{- with $values.rest.clientCa }}
  {{- if .secretName }}
  clientCaFile: {{ $secrets }}/rest/client-ca.crt
  {{- if .crlKey }}
  clientCrlFile: {{ $secrets }}/rest/client.crl
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if $values.rest.eventTokens.secretName }}
  eventTokensFile: {{ $secrets }}/rest/event-tokens
  {{- end }}
{{- if eq $values.mode "gateway" }}
{{- with $values.gateway }}
gateway:
  role: {{ .role }}
  {{- with .environment }}
  environment: {{ . | quote }}
  {{- end }}
  {{- with .primaryUrl }}
  primaryUrl: {{ . | quote }}
  {{- end }}
  {{- if .primaryCa.configMapName }}
  primaryCaFile: {{ $secrets }}/primary-ca.crt
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mazevault.settings.ocsp" -}}
{{- $secrets := "/etc/mazevault/secrets" -}}
{{- with .context.Values }}
database:
  host: {{ include "mazevault.databaseHost" $.context | quote }}
  port: {{ .database.port }}
  name: {{ .database.name | quote }}
  user: {{ .ocsp.database.user | quote }}
  passwordFile: {{ $secrets }}/database/password
  caFile: {{ $secrets }}/database/ca.crt
{{- if eq .ocsp.mode "Sidecar" }}
# REST has 8081 in this pod.
health:
  port: 8082
{{- end }}
{{- end }}
{{- end -}}

{{/* Of `dict "context" $ "component" NAME`, as YAML. */}}
{{- define "mazevault.settings" -}}
{{- if eq .component "ocsp" -}}
{{- mergeOverwrite (fromYaml (include "mazevault.settings.ocsp" .)) (deepCopy .context.Values.ocsp.config) | toYaml -}}
{{- else -}}
{{- $said := mergeOverwrite (fromYaml (include "mazevault.settings.operator" .)) (fromYaml (include "mazevault.rightsSettings" .context)) -}}
{{- mergeOverwrite $said (deepCopy .context.Values.config) | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Settings that name entries of a Key Vault, one a line. */}}
{{- define "mazevault.vaultEntries" -}}
{{- $config := .Values.config -}}
{{- if dig "database" "passwordSecret" "" $config }}config.database.passwordSecret
{{ end -}}
{{- if dig "redis" "passwordSecret" "" $config }}config.redis.passwordSecret
{{ end -}}
{{- if dig "keys" "rootKeySecret" "" $config }}config.keys.rootKeySecret
{{ end -}}
{{- if dig "keys" "passphraseSecret" "" $config }}config.keys.passphraseSecret
{{ end -}}
{{- if dig "keys" "previous" "rootKeySecret" "" $config }}config.keys.previous.rootKeySecret
{{ end -}}
{{- if dig "keys" "previous" "passphraseSecret" "" $config }}config.keys.previous.passphraseSecret
{{ end -}}
{{- if dig "gateway" "bootstrapTokenSecret" "" $config }}config.gateway.bootstrapTokenSecret
{{ end -}}
{{- end -}}
